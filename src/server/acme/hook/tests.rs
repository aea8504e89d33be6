use super::*;
use std::path::Path;
use tokio::net::UnixStream as Stream;
use tokio::task::JoinHandle;

const PROOF: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

fn record() -> TxtRecord {
    TxtRecord::new("mail.example.net", PROOF).expect("a record")
}

/// A hook that is this shell script, with the helper and the gateway's side around it.
fn hook(script: &str, limit: Duration) -> (Hook, JoinHandle<io::Result<()>>) {
    let (ours, theirs) = Stream::pair().expect("sockets");
    let command = HookCommand {
        program: "/bin/sh".into(),
        arguments: ["-c", script, "hook", "first"].map(Into::into).to_vec(),
        limit,
    };
    let helper = tokio::spawn(async move { helper::serve(BufStream::new(theirs), &command, || ()).await });
    // It stands for the helper's process when that is waited for.
    let child = Command::new("/bin/true").spawn().expect("it starts");
    let (questions, asked) = mpsc::channel(1);
    tokio::spawn(attend(BufStream::new(ours), child, limit, asked));
    (Hook(questions), helper)
}

/// What a hook that is this script comes to.
async fn fault(script: &str, limit: Duration) -> String {
    let (hook, _helper) = hook(script, limit);
    hook.ask(Action::Present, record()).await.expect_err("it does not do it").to_string()
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hook_is_told_what_to_do_by_arguments_and_by_variables() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("called");
    let script = format!("echo \"$@ $ACME_ACTION $ACME_RECORD $ACME_VALUE\" >>{}", file.display());
    let (hook, _helper) = hook(&script, LONG);
    hook.ask(Action::Present, record()).await.expect("it does");
    hook.ask(Action::Cleanup, record()).await.expect("it does");
    let name = "_acme-challenge.mail.example.net";
    let call = |action: &str| format!("first {action} {name} {PROOF} {action} {name} {PROOF}\n");
    assert_eq!(std::fs::read_to_string(file).expect("called"), call("present") + &call("cleanup"));
}

#[test]
fn a_hook_is_at_home_where_the_gateway_writes_nothing() {
    let hook = DnsHook { program: "/bin/true".into(), arguments: Vec::new(), timeout: LONG, wait: LONG };
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let command = helper_for(&hook, theirs);
    let set: std::collections::BTreeMap<_, _> = command.get_envs().collect();
    assert_eq!(set.get("HOME".as_ref() as &std::ffi::OsStr), Some(&Some("/".as_ref())));
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "NOTIFY_SOCKET"] {
        assert_eq!(set.get(variable.as_ref() as &std::ffi::OsStr), Some(&None), "{variable} is taken away");
    }
}

#[tokio::test]
async fn what_a_hook_says_no_with_is_passed_on_in_one_line_and_not_without_end() {
    let said = fault("echo 'no such zone' >&2; printf 'SERV\\033FAIL\\n' >&2; exit 3", LONG).await;
    assert!(said.contains("`present _acme-challenge.mail.example.net`") && said.contains("exit status: 3"), "{said}");
    assert!(said.ends_with(r"it said: no such zone; SERV\u{1b}FAIL"), "{said}");
    let said = fault("yes 'a line' | head -n 100000 >&2; echo last >&2; exit 1", LONG).await;
    assert!(said.ends_with("a line; last") && said.len() < 2 * LONGEST_WORDS, "{said}");
    let said = fault("head -c 1000000 /dev/zero | tr '\\0' x >&2; kill -9 $$", LONG).await;
    assert!(said.contains("signal: 9") && said.ends_with("xxxx") && said.len() < 2 * LONGEST_WORDS, "{said}");
    let said = fault("exit 1", LONG).await;
    assert!(said.contains("said nothing on standard error"), "{said}");
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $! $$ >{}; echo waiting >&2; wait", file.display());
    let said = fault(&script, Duration::from_millis(500)).await;
    assert!(said.contains("hook_timeout") && said.ends_with("it said: waiting"), "{said}");
    let pids = std::fs::read_to_string(file).expect("it began");
    assert_eq!(pids.split_whitespace().count(), 2);
    for pid in pids.split_whitespace() {
        gone(pid).await;
    }
}

/// Waits until a process has ended; nobody may have taken its body away yet.
async fn gone(pid: &str) {
    let lives = || {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
        status.contains("State:") && !status.contains("State:\tZ")
    };
    let ended = async {
        while lives() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, ended).await.unwrap_or_else(|_| panic!("{pid} goes on"));
}

#[tokio::test]
async fn what_a_hook_leaves_at_work_holds_up_nobody() {
    let (hook, _helper) = hook("sleep 30 & exit 0", LONG);
    let began = std::time::Instant::now();
    hook.ask(Action::Present, record()).await.expect("it is done");
    assert!(began.elapsed() < Duration::from_secs(20), "the pipe that the other holds open is not waited for");
}

#[tokio::test]
async fn a_hook_ends_with_the_gateway() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 1000", file.display());
    let (ours, theirs) = Stream::pair().expect("sockets");
    let command = HookCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()], limit: LONG };
    let helper = tokio::spawn(async move { helper::serve(BufStream::new(theirs), &command, || ()).await });
    let mut ours = BufStream::new(ours);
    ours.write_all(format!("present {}\n", record()).as_bytes()).await.expect("it reads");
    ours.flush().await.expect("it reads");
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(ours);
    helper.await.expect("no panic").expect("an end as it should be");
    gone(std::fs::read_to_string(file).expect("it began").trim()).await;
}

#[tokio::test]
async fn nothing_but_a_record_is_a_question() {
    for question in [
        "present _acme-challenge.mail.example.net\n".to_owned(),
        format!("remove {}\n", record()),
        format!("present {} x\n", record()),
        format!("present mail.example.net {PROOF}\n"),
        format!("present _acme-challenge.$(id) {PROOF}\n"),
        format!("present {}\n", "x".repeat(100_000)),
        "\n".to_owned(),
    ] {
        let (ours, theirs) = Stream::pair().expect("sockets");
        let command = HookCommand { program: "/bin/true".into(), arguments: Vec::new(), limit: LONG };
        let helper = tokio::spawn(async move { helper::serve(BufStream::new(theirs), &command, || ()).await });
        let mut ours = BufStream::new(ours);
        // It may hang up before it has read all of it.
        let _ = ours.write_all(question.as_bytes()).await;
        let _ = ours.flush().await;
        assert!(helper.await.expect("no panic").is_err(), "{question:?}");
    }
}

#[tokio::test]
async fn without_a_helper_every_question_has_its_answer() {
    assert!(matches!(Hook::gone().ask(Action::Present, record()).await, Err(HookFault::Gone)));
    let (hook, helper) = hook("sleep 1000", LONG);
    let asked = tokio::spawn({
        let hook = hook.clone();
        async move { hook.ask(Action::Present, record()).await }
    });
    // Whether it has been asked by then or not.
    tokio::task::yield_now().await;
    helper.abort();
    assert!(matches!(asked.await.expect("no panic"), Err(HookFault::Gone)));
    assert!(matches!(hook.ask(Action::Cleanup, record()).await, Err(HookFault::Gone)));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said() {
    let (ours, theirs) = Stream::pair().expect("sockets");
    let command = HookCommand { program: "/nowhere/hook".into(), arguments: Vec::new(), limit: LONG };
    tokio::spawn(async move { helper::serve(BufStream::new(theirs), &command, || ()).await });
    let answer = exchange(&mut BufStream::new(ours), Action::Present, &record()).await.expect("an answer");
    let said = judged(Action::Present, &record(), answer).expect_err("it is not there").to_string();
    assert!(said.contains("could not be started") && said.contains("No such file"), "{said}");
}
