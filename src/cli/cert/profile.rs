//! Apple's configuration profile (`.mobileconfig`) with a root in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The profile for a root in DER, unsigned: a device shows it as "not signed" and asks whether it shall be installed. Its
/// identifiers are made of the root, so that the same root is the same profile, and another one does not replace it.
pub(super) fn profile(root: &[u8], name: &str) -> String {
    let mut data = String::new();
    for line in STANDARD.encode(root).as_bytes().chunks(64) {
        let _ = writeln!(data, "\t\t\t{}", String::from_utf8_lossy(line));
    }
    let name = escaped(name);
    let (certificate, whole) = (uuid(root, "certificate"), uuid(root, "profile"));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<plist version=\"1.0\">
<dict>
\t<key>PayloadContent</key>
\t<array>
\t\t<dict>
\t\t\t<key>PayloadCertificateFileName</key>
\t\t\t<string>root.cer</string>
\t\t\t<key>PayloadContent</key>
\t\t\t<data>
{data}\t\t\t</data>
\t\t\t<key>PayloadDescription</key>
\t\t\t<string>The mail servers' certificate authority</string>
\t\t\t<key>PayloadDisplayName</key>
\t\t\t<string>{name}</string>
\t\t\t<key>PayloadIdentifier</key>
\t\t\t<string>gatepost.root.{certificate}</string>
\t\t\t<key>PayloadType</key>
\t\t\t<string>com.apple.security.root</string>
\t\t\t<key>PayloadUUID</key>
\t\t\t<string>{certificate}</string>
\t\t\t<key>PayloadVersion</key>
\t\t\t<integer>1</integer>
\t\t</dict>
\t</array>
\t<key>PayloadDescription</key>
\t<string>Lets this device trust the mail servers of {name}</string>
\t<key>PayloadDisplayName</key>
\t<string>{name}</string>
\t<key>PayloadIdentifier</key>
\t<string>gatepost.profile.{whole}</string>
\t<key>PayloadRemovalDisallowed</key>
\t<false/>
\t<key>PayloadType</key>
\t<string>Configuration</string>
\t<key>PayloadUUID</key>
\t<string>{whole}</string>
\t<key>PayloadVersion</key>
\t<integer>1</integer>
</dict>
</plist>
"
    )
}

/// A UUID made of a digest (RFC 9562 section 5.8, version 8).
fn uuid(root: &[u8], purpose: &str) -> String {
    let digest = Sha256::new().chain_update(purpose).chain_update([0]).chain_update(root).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // XML knows no control characters, not even escaped.
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_root_is_the_same_profile_and_another_is_another() {
        assert_eq!(profile(b"one", "a"), profile(b"one", "a"));
        let (one, two) = (uuid(b"one", "profile"), uuid(b"two", "profile"));
        assert!(one != two && one != uuid(b"one", "certificate"));
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(one.as_bytes()[14] == b'8' && matches!(one.as_bytes()[19], b'8' | b'9' | b'A' | b'B'), "{one}");
        assert!(profile(b"one", "<a & b>\u{1}").contains("<string>&lt;a &amp; b&gt;</string>"));
    }
}
