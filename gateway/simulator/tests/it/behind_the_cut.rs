//! The story of what lies behind a cut, with every length that what is written next may have: only
//! where it ends exactly where an old record begins would that come back.

use roost_simulator::play;

const STORY: &str = include_str!("../../../tests/scripts/behind_the_cut.txt");

#[test]
fn nothing_behind_a_cut_comes_back() {
    let text = "y".repeat(61);
    assert!(STORY.contains(&text), "the story has another text");
    let mut cut = false;
    let start = "crash power\nrestart with 1 shards\n";
    for length in 1..=100 {
        // Each start more draws another tearing.
        let begin = format!("server with 1 shards\n{}", start.repeat(length % 7));
        let story = STORY.replace(&text, &"y".repeat(length));
        let story = story.replace("server with 1 shards\n", &begin);
        let told = play(&story);
        if let Err(broken) = told.result {
            panic!("{length}: {broken}\n{}", told.story.join("\n"));
        }
        cut |= told.story.iter().any(|line| line.contains("the log was cut"));
    }
    assert!(cut, "nothing was torn: the story proves nothing any more");
}
