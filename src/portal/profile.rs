//! Apple's configuration profile (`.mobileconfig`): a root to trust, and the mail account.

use super::escaped;
use super::settings::Setting;
use crate::proto::Service;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The account that a profile sets up. The device asks for name, address, user name and password.
#[derive(Debug)]
pub struct Account<'a> {
    /// To read mail.
    pub incoming: &'a Setting,
    /// To send it.
    pub outgoing: &'a Setting,
}

/// The profile for a root in DER, an account, or both, unsigned: a device shows it as "not signed" and asks whether it
/// shall be installed. Its identifiers are made of what is in it, so that the same is the same profile, and another one does
/// not replace it.
pub fn profile(root: Option<&[u8]>, name: &str, account: Option<&Account<'_>>) -> String {
    let name = escaped(name);
    let (mut payloads, mut whole) = (String::new(), Vec::new());
    if let Some(root) = root {
        whole.extend_from_slice(root);
        add_root(root, &name, &mut payloads);
    }
    if let Some(account) = account {
        let text = format!("{account:?}");
        whole.extend_from_slice(text.as_bytes());
        add_account(account, &uuid(text.as_bytes(), "account"), &name, &mut payloads);
    }
    let description = match account {
        None => format!("Lets this device trust the mail servers of {name}"),
        Some(_) => format!("Sets up the e-mail account at {name}"),
    };
    let whole = uuid(&whole, "profile");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<plist version=\"1.0\">
<dict>
\t<key>PayloadContent</key>
\t<array>
{payloads}\t</array>
\t<key>PayloadDescription</key>
\t<string>{description}</string>
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

fn add_root(root: &[u8], name: &str, out: &mut String) {
    let mut data = String::new();
    for line in STANDARD.encode(root).as_bytes().chunks(64) {
        let _ = writeln!(data, "\t\t\t{}", String::from_utf8_lossy(line));
    }
    let certificate = uuid(root, "certificate");
    let _ = write!(
        out,
        "\t\t<dict>
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
"
    );
}

fn add_account(account: &Account<'_>, id: &str, name: &str, out: &mut String) {
    let kind = if account.incoming.service == Service::Pop3 { "EmailTypePOP" } else { "EmailTypeIMAP" };
    let _ = write!(
        out,
        "\t\t<dict>
\t\t\t<key>EmailAccountDescription</key>
\t\t\t<string>{name}</string>
\t\t\t<key>EmailAccountType</key>
\t\t\t<string>{kind}</string>
\t\t\t<key>OutgoingPasswordSameAsIncomingPassword</key>
\t\t\t<true/>
"
    );
    for (side, way) in [("Incoming", account.incoming), ("Outgoing", account.outgoing)] {
        // Apple's one switch is for both kinds of TLS: which it is follows from the port.
        let _ = write!(
            out,
            "\t\t\t<key>{side}MailServerAuthentication</key>
\t\t\t<string>EmailAuthPassword</string>
\t\t\t<key>{side}MailServerHostName</key>
\t\t\t<string>{}</string>
\t\t\t<key>{side}MailServerPortNumber</key>
\t\t\t<integer>{}</integer>
\t\t\t<key>{side}MailServerUseSSL</key>
\t\t\t<true/>
",
            escaped(&way.host),
            way.port
        );
    }
    let _ = write!(
        out,
        "\t\t\t<key>PayloadDescription</key>
\t\t\t<string>The e-mail account</string>
\t\t\t<key>PayloadDisplayName</key>
\t\t\t<string>{name}</string>
\t\t\t<key>PayloadIdentifier</key>
\t\t\t<string>gatepost.account.{id}</string>
\t\t\t<key>PayloadType</key>
\t\t\t<string>com.apple.mail.managed</string>
\t\t\t<key>PayloadUUID</key>
\t\t\t<string>{id}</string>
\t\t\t<key>PayloadVersion</key>
\t\t\t<integer>1</integer>
\t\t</dict>
"
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_root_is_the_same_profile_and_another_is_another() {
        assert_eq!(profile(Some(b"one"), "a", None), profile(Some(b"one"), "a", None));
        let (one, two) = (uuid(b"one", "profile"), uuid(b"two", "profile"));
        assert!(one != two && one != uuid(b"one", "certificate"));
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(one.as_bytes()[14] == b'8' && matches!(one.as_bytes()[19], b'8' | b'9' | b'A' | b'B'), "{one}");
        assert!(profile(Some(b"one"), "<a & b>\u{1}", None).contains("<string>&lt;a &amp; b&gt;</string>"));
    }
}
