use super::super::testing::{Authority, DAY, Folder, Leaf, ocsp_response};
use super::super::{KeyKind, Settings};
use super::*;

#[test]
fn a_renewed_pair_is_served_and_told_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.poll(), [""; 0]);

    let renewed = scene.write(&["mail.example.net", "imap.example.net"]);
    assert_eq!(scene.poll(), ["loaded mail.example.net, imap.example.net"]);
    assert_eq!(scene.poll(), [""; 0]);
    assert_eq!(scene.served(), renewed);
}

#[test]
fn the_same_certificate_written_again_is_no_news() {
    let mut scene = Scene::new();
    let chain = std::fs::read_to_string(&scene.files.chain).expect("reads");
    std::fs::write(&scene.files.chain, format!("# renewed by nobody\n{chain}")).expect("writes");
    assert_eq!(scene.poll(), [""; 0]);
}

#[test]
fn a_pair_in_mid_change_is_waited_for() {
    let mut scene = Scene::new();
    let before = scene.served();
    let next = scene.ca.leaf(&["mail.example.net"]);
    std::fs::write(&scene.files.chain, next.chain()).expect("writes");
    assert_eq!(scene.poll(), ["waiting key_mismatch"]);
    scene.now += SETTLING / 2;
    assert_eq!(scene.poll(), [""; 0]);
    assert_eq!(scene.served(), before);
    std::fs::write(&scene.files.key, &next.key).expect("writes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    assert_ne!(scene.served(), before);
}

#[test]
fn a_pair_that_never_fits_is_refused_after_half_a_minute_and_again_on_demand() {
    let mut scene = Scene::new();
    let before = scene.served();
    std::fs::remove_file(&scene.files.key).expect("removes");
    assert_eq!(scene.poll(), ["waiting unreadable"]);
    // The clock goes back an hour: the wait is not prolonged by that.
    scene.now -= Duration::from_secs(3600);
    assert_eq!(scene.poll(), [""; 0]);
    scene.now += SETTLING;
    assert_eq!(scene.poll(), ["refused unreadable"]);
    assert_eq!(scene.poll(), [""; 0]);
    assert_eq!(scene.reload(), ["refused unreadable"]);
    assert_eq!(scene.poll(), [""; 0]);
    assert_eq!(scene.served(), before, "the old one is served on");

    let renewed = scene.write(&["mail.example.net"]);
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    assert_eq!(scene.served(), renewed);
}

#[test]
fn an_expired_renewal_is_refused_at_once_and_the_old_pair_put_back_is_told() {
    let mut scene = Scene::new();
    let before = scene.served();
    let old = std::fs::read(&scene.files.chain).expect("reads");
    let old_key = std::fs::read(&scene.files.key).expect("reads");
    let expired = scene.ca.expired_leaf(&["mail.example.net"]);
    scene.put(&expired);
    assert_eq!(scene.poll(), ["refused expired"]);
    assert_eq!(scene.served(), before);

    std::fs::write(&scene.files.chain, old).expect("writes");
    std::fs::write(&scene.files.key, old_key).expect("writes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"], "whoever heard of the refusal hears that it is over");
}

#[test]
fn a_new_fault_after_a_refusal_is_told() {
    let mut scene = Scene::new();
    scene.put(&scene.ca.expired_leaf(&["mail.example.net"]));
    assert_eq!(scene.poll(), ["refused expired"]);
    std::fs::write(&scene.files.chain, "").expect("writes");
    assert_eq!(scene.poll(), ["waiting no_certificate"]);
    scene.now += SETTLING;
    assert_eq!(scene.poll(), ["refused no_certificate"]);
}

#[test]
fn an_expired_pair_is_served_at_start_for_the_caller_to_judge() {
    let folder = Folder::new();
    let expired = Authority::new().expired_leaf(&["mail.example.net"]);
    let files = folder.pair(expired.chain().as_bytes(), expired.key.as_bytes());
    let now = SystemTime::now();
    let (watched, findings) = Watched::open(vec![Source::Files(files.clone())], now).expect("served");
    assert_eq!(codes(&findings), "expired");
    assert!(findings.iter().all(ChainFinding::is_about_time));
    assert!(watched.certificates().is_some());

    std::fs::write(&files.key, "").expect("writes");
    let findings = Watched::open(vec![Source::Files(files)], now).expect_err("no key");
    assert_eq!(codes(&findings), "no_key expired");
    assert!(Watched::open(Vec::new(), now).is_err(), "nothing to serve");
}

#[test]
fn one_broken_pair_does_not_keep_another_from_being_renewed() {
    let (first, second) = (Folder::new(), Folder::new());
    let ca = Authority::new();
    let (rsa, ecdsa) = (ca.rsa_leaf(&["mail.example.net"]), ca.leaf(&["mail.example.net"]));
    let sources = vec![
        Source::Files(first.pair(rsa.chain().as_bytes(), rsa.key.as_bytes())),
        Source::Files(second.pair(ecdsa.chain().as_bytes(), ecdsa.key.as_bytes())),
    ];
    let now = SystemTime::now();
    let (mut watched, _) = Watched::open(sources, now).expect("good pairs");
    let tls = ServerTls::new(Settings::default(), watched.certificates().expect("two")).expect("a configuration");

    let renewed = ca.leaf(&["mail.example.net"]);
    second.pair(renewed.chain().as_bytes(), renewed.key.as_bytes());
    std::fs::write(first.files().chain, "").expect("writes");
    let changes = watched.poll(&tls, now);
    assert_eq!(changes.iter().map(describe).collect::<Vec<_>>(), ["waiting no_certificate", "loaded mail.example.net"]);
    let served = tls.certificates();
    let kinds: Vec<KeyKind> = served.identities().iter().map(|identity| identity.key_kind()).collect();
    assert_eq!(kinds, [KeyKind::Rsa, KeyKind::Ecdsa], "both, in their order");
}

#[test]
fn an_ocsp_response_comes_goes_and_ends_with_its_time() {
    let mut scene = Scene::new();
    let leaf = scene.ca.leaf(&["mail.example.net"]);
    scene.put(&leaf);
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    let beside = scene.folder.path().join("chain.pem.ocsp");
    let response = |scene: &Scene, until| ocsp_response(&leaf.serial(), 0x80, scene.now - DAY, Some(scene.now + until));
    let stapled = |scene: &Scene| scene.tls.certificates().identities()[0].staple().map(<[u8]>::to_vec);

    let first = response(&scene, 2 * DAY);
    std::fs::write(&beside, &first).expect("writes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    assert_eq!(scene.poll(), [""; 0]);
    assert_eq!(stapled(&scene), Some(first));
    let second = response(&scene, 4 * DAY);
    std::fs::write(&beside, &second).expect("writes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    assert_eq!(stapled(&scene), Some(second));

    // Nothing is written any more, and its time passes.
    scene.now += 3 * DAY;
    assert_eq!(scene.poll(), [""; 0]);
    scene.now += DAY;
    let changes = scene.watched.poll(&scene.tls, scene.now);
    let [Change::Loaded { warnings, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(codes(warnings), "not_stapled");
    assert_eq!(stapled(&scene), None);
    assert_eq!(scene.poll(), [""; 0]);

    let third = response(&scene, 4 * DAY);
    std::fs::write(&beside, &third).expect("writes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    assert_eq!(stapled(&scene), Some(third));
    std::fs::remove_file(&beside).expect("removes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    assert_eq!(stapled(&scene), None);

    // Certificate and response end on the same day: that is said once, not at every look.
    std::fs::write(&beside, response(&scene, 90 * DAY)).expect("writes");
    assert_eq!(scene.poll(), ["loaded mail.example.net"]);
    scene.now += 91 * DAY;
    assert_eq!(scene.poll(), ["refused expired not_stapled"]);
    assert_eq!(scene.poll(), [""; 0]);
}

#[test]
fn the_private_certificate_is_renewed_when_its_time_comes() {
    let folder = Folder::new();
    let mut now = SystemTime::now();
    let ca = Arc::new(PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("a CA"));
    let names = vec!["mail.example.net".parse().expect("a name")];
    let (mut watched, findings) = Watched::open(vec![Source::Private(ca, names)], now).expect("issued");
    assert_eq!(findings, []);
    let tls = ServerTls::new(Settings::default(), watched.certificates().expect("one")).expect("a configuration");
    let before = tls.certificates().identities()[0].not_after();

    now += 200 * DAY;
    assert!(watched.poll(&tls, now).is_empty());
    now += 70 * DAY;
    assert_eq!(watched.poll(&tls, now).iter().map(describe).collect::<Vec<_>>(), ["loaded mail.example.net"]);
    assert!(tls.certificates().identities()[0].not_after() > before);

    // The directory is lost: what is served is served on, and said once.
    std::fs::remove_dir_all(folder.path()).expect("removes");
    now += 300 * DAY;
    assert_eq!(watched.poll(&tls, now).iter().map(describe).collect::<Vec<_>>(), ["refused private_ca"]);
    assert!(watched.poll(&tls, now).is_empty());
    assert_eq!(watched.reload(&tls, now).iter().map(describe).collect::<Vec<_>>(), ["refused private_ca"]);
}

struct Scene {
    ca: Authority,
    folder: Folder,
    files: CertificateFiles,
    watched: Watched,
    tls: ServerTls,
    now: SystemTime,
}

impl Scene {
    fn new() -> Self {
        let (ca, folder, now) = (Authority::new(), Folder::new(), SystemTime::now());
        let leaf = ca.leaf(&["mail.example.net"]);
        let files = folder.pair(leaf.chain().as_bytes(), leaf.key.as_bytes());
        let (watched, findings) = Watched::open(vec![Source::Files(files.clone())], now).expect("a good pair");
        assert_eq!(findings, []);
        let tls = ServerTls::new(Settings::default(), watched.certificates().expect("one")).expect("a configuration");
        Self { ca, folder, files, watched, tls, now }
    }

    fn put(&self, leaf: &Leaf) {
        self.folder.pair(leaf.chain().as_bytes(), leaf.key.as_bytes());
    }

    /// Writes a new pair and gives its certificate.
    fn write(&self, names: &[&str]) -> Vec<u8> {
        let leaf = self.ca.leaf(names);
        self.put(&leaf);
        super::super::testing::identity(&leaf).chain()[0].to_vec()
    }

    fn poll(&mut self) -> Vec<String> {
        self.watched.poll(&self.tls, self.now).iter().map(describe).collect()
    }

    fn reload(&mut self) -> Vec<String> {
        self.watched.reload(&self.tls, self.now).iter().map(describe).collect()
    }

    fn served(&self) -> Vec<u8> {
        self.tls.certificates().identities()[0].chain()[0].to_vec()
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Loaded { identity, .. } => format!("loaded {}", super::super::name::list(identity.names())),
        Change::Waiting { findings, .. } => format!("waiting {}", codes(findings)),
        Change::Refused { findings, .. } => format!("refused {}", codes(findings)),
    }
}

fn codes(findings: &[ChainFinding]) -> String {
    findings.iter().map(ChainFinding::code).collect::<Vec<_>>().join(" ")
}
