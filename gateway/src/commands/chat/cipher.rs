//! What `/cipher` sends: one ciphertext for each device, to see that they arrive where they should
//! and that nobody else holds the text. **It keeps no secret**: the key is the device's id, which
//! the server knows.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use roost_protocol::ids::{DeviceId, UserId};
use roost_protocol::request::{Ciphertext, Content, DeviceVersion};
use roost_protocol::wire;

/// What a ciphertext of ours begins with.
const MARK: &[u8] = b"roost-test-cipher:";

/// A text for all devices of these lists but the own one; nothing when there is none.
pub(super) fn seal(text: &str, lists: &wire::UserDevices, own: DeviceId) -> Option<Content> {
    let (mut ciphertexts, mut versions) = (Vec::new(), Vec::new());
    for list in &lists.users {
        let user = UserId::new(&list.user).ok()?;
        for device in &list.devices {
            let device = DeviceId(device.as_ref().try_into().ok()?);
            if device != own {
                let body = Bytes::from([MARK, &covered(device, text.as_bytes())].concat());
                ciphertexts.push(Ciphertext { user: user.clone(), device, body });
            }
        }
        versions.push(DeviceVersion { user, version: list.version });
    }
    (!ciphertexts.is_empty()).then_some(Content::ToDevices {
        ciphertexts,
        key_message: false,
        versions,
    })
}

/// The text of a ciphertext for this device; nothing when it is not ours.
pub(super) fn open(body: &[u8], own: DeviceId) -> Option<Vec<u8>> {
    body.strip_prefix(MARK).map(|covered_text| covered(own, covered_text))
}

/// Covers a text, and uncovers it.
fn covered(device: DeviceId, text: &[u8]) -> Vec<u8> {
    let mut covered = Vec::with_capacity(text.len());
    for (block, part) in (0_u64..).zip(text.chunks(32)) {
        let key = digest(&SHA256, &[&device.0[..], &block.to_le_bytes()].concat());
        covered.extend(part.iter().zip(key.as_ref()).map(|(byte, key)| byte ^ key));
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_opens_its_own_and_the_text_is_nowhere() {
        let device = |id: u8| Bytes::copy_from_slice(&[id; 16]);
        let list = |user: &str, devices: Vec<Bytes>| wire::DeviceSet {
            user: user.to_owned(),
            version: 3,
            devices,
        };
        let users = vec![list("ann", vec![device(1), device(2)]), list("bob", vec![device(3)])];
        let lists = wire::UserDevices { users };
        let text = "a text that is longer than one block of the key, and no secret";
        let content = seal(text, &lists, DeviceId([1; 16])).unwrap();
        let Content::ToDevices { ciphertexts, versions, .. } = content else { panic!("no") };
        let devices: Vec<DeviceId> = ciphertexts.iter().map(|one| one.device).collect();
        assert_eq!(devices, [DeviceId([2; 16]), DeviceId([3; 16])]);
        assert_eq!(versions.len(), 2);
        for one in &ciphertexts {
            assert!(!one.body.windows(6).any(|window| window == b"secret"));
            assert_eq!(open(&one.body, one.device).unwrap(), text.as_bytes());
        }
        assert_eq!(open(b"something else", DeviceId([1; 16])), None);
        let alone = wire::UserDevices { users: vec![list("ann", vec![device(1)])] };
        assert_eq!(seal("x", &alone, DeviceId([1; 16])), None);
    }
}
