//! Round trips of one small command in sessions that stand.

use super::{Run, since};
use crate::load::{Answer, Caller, Handshake};
use crate::peers::{Peer, Purpose};
use crate::protocols::{Door, log_in, open};
use crate::site::Site;
use anyhow::Result;
use std::time::Instant;
use tokio::task::JoinSet;

const WARM: u32 = 10;

pub(super) async fn run(run: &mut Run, peer: &Peer, site: &Site, connections: u32, count: u32) -> Result<()> {
    let running = peer.start(site, Purpose::Sessions, &[Door::Imaps]).await?;
    let mut clients = Vec::new();
    for number in 0..connections {
        let mut caller = Caller::new(&site.roots, Handshake::Full);
        let mut talk = open(&mut caller, Door::Imaps).await?;
        log_in(&mut caller, &mut talk, Door::Imaps, number).await?;
        for _ in 0..WARM {
            caller.ask(&mut talk, "noop", "a2 NOOP\r\n", Answer::Tagged("a2")).await?;
        }
        caller.exchanges.clear();
        clients.push((caller, talk));
    }
    let each = count / connections;
    let (cpu, begun) = (running.cage.cpu()?, Instant::now());
    let mut loops = JoinSet::new();
    for (mut caller, mut talk) in clients {
        loops.spawn(async move {
            for _ in 0..each {
                caller.ask(&mut talk, "noop", "a2 NOOP\r\n", Answer::Tagged("a2")).await?;
            }
            anyhow::Ok((caller, talk))
        });
    }
    let clients = loops.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let wall = begun.elapsed();
    let cpu = since(&running.cage, cpu).await?;
    for (mut caller, mut talk) in clients {
        run.takes(std::mem::take(&mut caller.exchanges));
        caller.ask(&mut talk, "goodbye", "a9 LOGOUT\r\n", Answer::Tagged("a9")).await?;
        caller.end(talk).await?;
    }
    let done = f64::from(each * connections);
    run.figures.insert("cpu", cpu.as_secs_f64() * 1e6 / done);
    run.figures.insert("rate", done / wall.as_secs_f64());
    run.latencies("noop");
    Ok(())
}
