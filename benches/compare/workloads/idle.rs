//! Sessions that wait: their memory, and what of it comes back.

use super::Run;
use crate::cage::{Cage, machine_kernel_kib};
use crate::load::{Answer, Caller, Handshake, Talk};
use crate::peers::{Peer, Purpose};
use crate::protocols::{Door, log_in, open};
use crate::site::Site;
use anyhow::Result;
use std::time::Duration;
use tokio::task::JoinSet;

/// How many come in, or leave, at once.
const AT_ONCE: u32 = 32;

/// Sessions in IDLE, by the clients that hold them.
pub struct Idlers(Vec<(Caller, Vec<Talk>)>);

pub(super) async fn run(run: &mut Run, peer: &Peer, site: &Site, doors: &[Door], count: u32) -> Result<()> {
    let running = peer.start(site, Purpose::Sessions, doors).await?;
    let cage = &running.cage;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (empty, kernel_empty, machine_empty) = (cage.pss_kib(), cage.kernel_kib(), machine_kernel_kib());
    let idlers = hold(site, count).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (full, kernel_full, machine_full) = (cage.pss_kib(), cage.kernel_kib(), machine_kernel_kib());
    idlers.leave().await?;
    let left = fallen(cage, full).await;

    let sessions = f64::from(count);
    let grown = kib(full) - kib(empty);
    run.figures.insert("start", kib(empty) / 1024.0);
    run.figures.insert("idle", grown / sessions);
    if let (Some(before), Some(during)) = (kernel_empty, kernel_full) {
        run.figures.insert("kernel", (kib(during) - kib(before)) / sessions);
    }
    // Client and backend have their share in it.
    run.figures.insert("kernel_machine", (kib(machine_full) - kib(machine_empty)) / sessions);
    run.figures.insert("after", kib(left) / 1024.0);
    run.figures.insert("given_back", if grown > 0.0 { (kib(full) - kib(left)) / grown * 100.0 } else { 100.0 });
    Ok(())
}

/// Opens so many sessions and puts them into IDLE.
pub async fn hold(site: &Site, count: u32) -> Result<Idlers> {
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE.min(count) {
        let mut caller = Caller::new(&site.roots, Handshake::Full);
        workers.spawn(async move {
            let mut talks = Vec::new();
            for number in (worker..count).step_by(AT_ONCE as usize) {
                let mut talk = open(&mut caller, Door::Imaps).await?;
                log_in(&mut caller, &mut talk, Door::Imaps, number).await?;
                caller.ask(&mut talk, "idle", "a3 IDLE\r\n", Answer::Begins("+")).await?;
                talks.push(talk);
            }
            anyhow::Ok((caller, talks))
        });
    }
    Ok(Idlers(workers.join_all().await.into_iter().collect::<Result<_>>()?))
}

impl Idlers {
    /// Ends all of them.
    pub async fn leave(self) -> Result<()> {
        let mut workers = JoinSet::new();
        for (mut caller, talks) in self.0 {
            workers.spawn(async move {
                for mut talk in talks {
                    caller.ask(&mut talk, "done", "DONE\r\n", Answer::Tagged("a3")).await?;
                    caller.ask(&mut talk, "goodbye", "a9 LOGOUT\r\n", Answer::Tagged("a9")).await?;
                    caller.end(talk).await?;
                }
                anyhow::Ok(())
            });
        }
        workers.join_all().await.into_iter().collect()
    }
}

/// The memory once it falls no more; looked at for fifteen seconds.
async fn fallen(cage: &Cage, full: u64) -> u64 {
    let (mut least, mut still) = (full, 0);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = cage.pss_kib();
        // Half a percent is nobody giving back.
        still = if now + full / 200 < least { 0 } else { still + 1 };
        least = least.min(now);
        // Five seconds; who has a timer for it has a longer one than that.
        if still >= 20 {
            break;
        }
    }
    least
}

fn kib(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
