//! Who may come in: allow and deny lists.

mod file;
mod list;
mod set;

pub use file::{ListError, ListFile};
pub use list::{BadLine, Purpose, fields as hosts_allow_fields, not_a_network, parse as parse_list};
pub use set::{AddressSet, parse_network};

use crate::proto::Refusal;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;

/// A listener's two lists. The deny list is looked at first.
#[derive(Debug, Default)]
pub struct Access {
    /// Absent (`None`): everyone.
    pub allow: Option<AccessList>,
    /// Absent: no one.
    pub deny: Option<AccessList>,
}

impl Access {
    /// Whether this address may come in. A v4-mapped address counts as the IPv4 address it holds.
    ///
    /// # Errors
    /// [`Refusal::Denied`] or [`Refusal::NotAllowed`].
    pub fn check(&self, client: IpAddr) -> Result<(), Refusal> {
        if self.deny.as_ref().is_some_and(|list| list.contains(client)) {
            return Err(Refusal::Denied);
        }
        if self.allow.as_ref().is_some_and(|list| !list.contains(client)) {
            return Err(Refusal::NotAllowed);
        }
        Ok(())
    }

    /// [`AccessList::reread`] for both lists.
    pub fn reread(&self) -> Vec<(PathBuf, Result<bool, ListError>)> {
        self.allow.iter().chain(&self.deny).flat_map(AccessList::reread).collect()
    }
}

/// Networks written in the configuration, and files of them that are reread when they change.
#[derive(Debug, Default)]
pub struct AccessList {
    fixed: AddressSet,
    files: Vec<ListFile>,
}

impl AccessList {
    /// A list of both kinds of entries. With neither it holds nobody.
    pub fn new(fixed: AddressSet, files: Vec<ListFile>) -> Self {
        Self { fixed, files }
    }

    /// Whether the address is on the list.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.fixed.contains(client) || self.files.iter().any(|file| file.contains(client))
    }

    /// Whether everybody of a family is on it, by the networks or by what a file last said.
    pub fn is_for_everyone(&self) -> bool {
        self.fixed.holds_an_internet() || self.files.iter().any(ListFile::is_for_everyone)
    }

    /// The list files, for those who watch or must be able to read them.
    pub fn files(&self) -> &[ListFile] {
        &self.files
    }

    /// Rereads the files that have changed. Each is named with whether its members are others now, or with
    /// what is wrong with it; then its last good members stay.
    pub fn reread(&self) -> Vec<(PathBuf, Result<bool, ListError>)> {
        self.files.iter().map(|file| (file.path().to_owned(), file.reread())).collect()
    }
}

impl FromIterator<IpNet> for AccessList {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self::new(networks.into_iter().collect(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(nets: &[&str]) -> Option<AccessList> {
        Some(nets.iter().map(|net| parse_network(net).expect(net)).collect())
    }

    #[test]
    fn the_deny_list_is_looked_at_first_and_an_absent_list_means_everyone() {
        let cases = [
            (None, None, Ok(())),
            (list(&["10.0.0.0/8"]), None, Ok(())),
            (list(&["10.0.0.0/8"]), list(&["10.0.0.1"]), Err(Refusal::Denied)),
            (None, list(&["::ffff:10.0.0.0/104"]), Err(Refusal::Denied)),
            (list(&["192.0.2.0/24"]), None, Err(Refusal::NotAllowed)),
            (list(&[]), None, Err(Refusal::NotAllowed)),
            (None, list(&[]), Ok(())),
        ];
        for (allow, deny, expected) in cases {
            let access = Access { allow, deny };
            for client in ["10.0.0.1", "::ffff:10.0.0.1"] {
                assert_eq!(access.check(client.parse().expect("an address")), expected, "{access:?} {client}");
            }
        }
    }
}
