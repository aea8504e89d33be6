//! Who may come in: allow and deny lists.

use arc_swap::ArcSwap;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::proto::Refusal;

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
        let client = client.to_canonical();
        if self.deny.as_ref().is_some_and(|list| list.contains(client)) {
            return Err(Refusal::Denied);
        }
        if self.allow.as_ref().is_some_and(|list| !list.contains(client)) {
            return Err(Refusal::NotAllowed);
        }
        Ok(())
    }
}

/// Networks written in the configuration, and files of them that are reread when they change.
#[derive(Debug, Default)]
pub struct AccessList {
    /// Written in the configuration itself.
    pub fixed: Vec<IpNet>,
    /// `file:PATH`.
    pub files: Vec<ListFile>,
}

impl AccessList {
    /// Whether the address is on the list.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.fixed.iter().any(|net| net.contains(&client))
            || self.files.iter().any(|file| file.current.load().iter().any(|net| net.contains(&client)))
    }
}

/// A list file and what stood in it when it was last good.
#[derive(Debug)]
pub struct ListFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it last said.
    pub current: ArcSwap<Vec<IpNet>>,
}

impl ListFile {
    /// A file that has been read and parsed.
    pub fn new(path: PathBuf, nets: Vec<IpNet>) -> Self {
        Self { path, current: ArcSwap::new(Arc::new(nets)) }
    }
}
