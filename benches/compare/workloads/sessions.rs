//! Whole sessions: so many by eight clients, or one after the other.

use super::{Run, since};
use crate::load::{Caller, Handshake};
use crate::peers::{Kind, Peer, Purpose};
use crate::protocols::{Door, SESSION, session};
use crate::site::Site;
use anyhow::Result;
use std::time::Instant;
use tokio::task::JoinSet;

/// How many clients there are at once.
pub const WORKERS: u32 = 8;
/// Sessions of each client before it counts: tickets are handed out, caches are warm.
const WARM: u32 = 8;

pub(super) async fn at_once(
    run: &mut Run,
    peer: &Peer,
    site: &Site,
    door: Door,
    handshake: Handshake,
    count: u32,
) -> Result<()> {
    let running = peer.start(site, Purpose::Sessions, &[door]).await?;
    let callers = (0..WORKERS).map(|_| Caller::new(&site.roots, handshake)).collect();
    let callers = many(run, callers, door, WARM * WORKERS, false).await;
    if !run.errors.is_empty() {
        return Ok(());
    }
    run.exchanges.clear();
    run.untidy = 0;
    let count = fewer(peer, door, count) / WORKERS * WORKERS;
    let (cpu, begun) = (running.cage.cpu()?, Instant::now());
    many(run, callers, door, count, true).await;
    let wall = begun.elapsed();
    let cpu = since(&running.cage, cpu).await?;
    run.figures.insert("cpu", cpu.as_secs_f64() * 1e6 / f64::from(count));
    run.figures.insert("rate", f64::from(count) / wall.as_secs_f64());
    run.latencies(SESSION);
    Ok(())
}

pub(super) async fn alone(run: &mut Run, peer: &Peer, site: &Site, door: Door, count: u32) -> Result<()> {
    let running = peer.start(site, Purpose::Sessions, &[door]).await?;
    let mut caller = Caller::new(&site.roots, Handshake::Full);
    for number in 0..WARM {
        session(&mut caller, door, number, false).await?;
    }
    caller.exchanges.clear();
    caller.untidy = 0;
    let count = fewer(peer, door, count);
    let cpu = running.cage.cpu()?;
    for number in 0..count {
        session(&mut caller, door, number, true).await?;
    }
    let cpu = since(&running.cage, cpu).await?;
    run.takes(std::mem::take(&mut caller.exchanges));
    run.untidy = caller.untidy;
    run.figures.insert("cpu", cpu.as_secs_f64() * 1e6 / f64::from(count));
    run.latencies(SESSION);
    Ok(())
}

/// Has the callers hold `count` sessions between them, notes what came of it, and gives them back. The first error ends its caller's part.
pub async fn many(run: &mut Run, callers: Vec<Caller>, door: Door, count: u32, measured: bool) -> Vec<Caller> {
    let each = count / u32::try_from(callers.len()).unwrap_or(1).max(1);
    let mut workers = JoinSet::new();
    for (worker, mut caller) in (0..).zip(callers) {
        workers.spawn(async move {
            let mut error = None;
            for number in 0..each {
                if let Err(why) = session(&mut caller, door, worker * each + number, measured).await {
                    error = Some(format!("session {number} of client {worker}: {why:#}"));
                    break;
                }
            }
            (caller, error)
        });
    }
    let mut callers = Vec::new();
    for (mut caller, error) in workers.join_all().await {
        run.takes(std::mem::take(&mut caller.exchanges));
        run.untidy += std::mem::take(&mut caller.untidy);
        run.errors.extend(error);
        callers.push(caller);
    }
    callers
}

/// stunnel waits 200 ms in each STARTTLS; its CPU time a session is the same in a quarter of them.
fn fewer(peer: &Peer, door: Door, count: u32) -> u32 {
    if peer.kind == Kind::Stunnel && door.begins_in_the_clear() { (count / 4).max(WORKERS) } else { count }
}
