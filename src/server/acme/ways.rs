//! The way in which the CA is shown that the names are ours: here, at an address we listen on, or in the DNS.

use super::hook::{Action, Hook, HookFault};
use super::on_disk;
use super::order::Failure;
use crate::tls::{Folder, LeftRecord, Proofs, TxtRecord};
use std::sync::Arc;

/// The most records that are remembered: two orders' worth of the names that one certificate may have.
const MOST: usize = 200;

/// How often it is tried to remove a record.
const MOST_REMOVALS: u8 = 2;

/// Where proofs are shown.
pub(super) enum Ways {
    /// At our address (http-01, tls-alpn-01).
    Here(Arc<Proofs>),
    /// In TXT records, by the operator's hook (dns-01).
    Dns(Hook),
}

impl Ways {
    /// Takes away every proof that is shown, those of a process before this one too. What the hook does not remove is said,
    /// and tried once more the next time.
    pub(super) async fn clear(&self, folder: &Folder) {
        let hook = match self {
            Self::Here(proofs) => return proofs.clear(),
            Self::Dns(hook) => hook,
        };
        let left = records(folder).await;
        if left.is_empty() {
            return;
        }
        let (mut stay, mut is_gone) = (Vec::new(), false);
        for LeftRecord { record, failed } in left {
            if is_gone {
                stay.push(LeftRecord { record, failed });
                continue;
            }
            match hook.ask(Action::Cleanup, record.clone()).await {
                Ok(()) => {}
                Err(HookFault::Gone) => {
                    is_gone = true;
                    stay.push(LeftRecord { record, failed });
                }
                Err(fault) => {
                    tracing::warn!("acme: the TXT record {} may still be there: {fault}", record.name());
                    let failed = failed.saturating_add(1);
                    if failed < MOST_REMOVALS {
                        stay.push(LeftRecord { record, failed });
                    }
                }
            }
        }
        if let Err(failure) = keep(folder, stay).await {
            tracing::error!("acme: {failure}");
        }
    }
}

/// Has a record set. It is noted first: who dies in between has it removed by the next process.
pub(super) async fn present(hook: &Hook, folder: &Folder, record: TxtRecord) -> Result<(), Failure> {
    let mut noted = records(folder).await;
    noted.push(LeftRecord { record: record.clone(), failed: 0 });
    let surplus = noted.len().saturating_sub(MOST);
    noted.drain(..surplus);
    keep(folder, noted).await?;
    Ok(hook.ask(Action::Present, record).await?)
}

async fn records(folder: &Folder) -> Vec<LeftRecord> {
    on_disk(folder, Folder::records).await.unwrap_or_default()
}

async fn keep(folder: &Folder, records: Vec<LeftRecord>) -> Result<(), Failure> {
    match on_disk(folder, move |folder| folder.keep_records(&records)).await {
        Some(kept) => Ok(kept?),
        None => Ok(()),
    }
}
