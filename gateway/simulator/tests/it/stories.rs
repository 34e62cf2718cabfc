//! Every story of `gateway/tests/scripts`.

use roost_simulator::play;
use std::path::Path;

#[test]
fn every_story_comes_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "stories were lost");
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let told = play(&text);
        if let Err(broken) = told.result {
            panic!("{}: {broken}\n{}", path.display(), told.story.join("\n"));
        }
        assert_eq!(told.hash, play(&text).hash, "{}", path.display());
    }
}
