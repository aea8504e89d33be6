//! Large literals both ways, in four streams.

use super::{Run, since};
use crate::load::{Answer, Caller, Handshake, Talk};
use crate::peers::{Peer, Purpose};
use crate::protocols::{Door, log_in, open};
use crate::site::Site;
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Down,
    Up,
}

const STREAMS: u32 = 4;
const PIECE: usize = 128 * 1024;

pub(super) async fn run(run: &mut Run, peer: &Peer, site: &Site, direction: Direction, mebibytes: u32) -> Result<()> {
    let running = peer.start(site, Purpose::Bulk, &[Door::Imaps]).await?;
    let mut clients = Vec::new();
    for number in 0..STREAMS {
        let mut caller = Caller::new(&site.roots, Handshake::Full);
        let mut talk = open(&mut caller, Door::Imaps).await?;
        log_in(&mut caller, &mut talk, Door::Imaps, number).await?;
        // Buffers that grow on the way have grown.
        transfer(&mut caller, &mut talk, direction, 4 << 20).await?;
        clients.push((caller, talk));
    }
    let length = usize::try_from(mebibytes)? << 20;
    let (cpu, begun) = (running.cage.cpu()?, Instant::now());
    let mut streams = JoinSet::new();
    for (mut caller, mut talk) in clients {
        streams.spawn(async move {
            transfer(&mut caller, &mut talk, direction, length).await?;
            anyhow::Ok((caller, talk))
        });
    }
    let clients = streams.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let wall = begun.elapsed();
    let cpu = since(&running.cage, cpu).await?;
    for (mut caller, mut talk) in clients {
        caller.ask(&mut talk, "goodbye", "a9 LOGOUT\r\n", Answer::Tagged("a9")).await?;
        caller.end(talk).await?;
    }
    let moved = f64::from(mebibytes * STREAMS);
    run.figures.insert("cpu", cpu.as_secs_f64() / (moved / 1024.0));
    run.figures.insert("rate", moved / wall.as_secs_f64());
    Ok(())
}

async fn transfer(caller: &mut Caller, talk: &mut Talk, direction: Direction, length: usize) -> Result<()> {
    match direction {
        Direction::Down => {
            let fetch = format!("a5 FETCH {length} BODY[]\r\n");
            caller.ask(talk, "fetch", &fetch, Answer::Begins("* 1 FETCH (BODY[] {")).await?;
            let mut piece = vec![0; PIECE];
            let mut left = length;
            while left > 0 {
                let most = left.min(PIECE);
                let count = talk.read(&mut piece[..most]).await.context("download")?;
                ensure!(count > 0, "closed in a download, {left} bytes before its end");
                ensure!(piece[0] == b'm' && piece[count - 1] == b'm', "a download is not what was sent");
                left -= count;
            }
            caller.hear(talk, "end of literal", Answer::Begins(")")).await?;
            caller.hear(talk, "fetch", Answer::Tagged("a5")).await
        }
        Direction::Up => {
            let append = format!("a6 APPEND INBOX {{{length}}}\r\n");
            caller.ask(talk, "append", &append, Answer::Begins("+")).await?;
            let piece = vec![b'm'; PIECE];
            let mut left = length;
            while left > 0 {
                let count = left.min(PIECE);
                talk.send(&piece[..count]).await.context("upload")?;
                left -= count;
            }
            caller.ask(talk, "append", "\r\n", Answer::Tagged("a6")).await
        }
    }
}
