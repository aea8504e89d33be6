use super::super::testing::{Authority, DAY, Folder, ocsp_response};
use super::super::{ChainFinding, Identity};
use super::*;
use proptest::prelude::*;

const GOOD: u8 = 0x80;
const SERIAL: &[u8] = &[0x2a, 0x55, 0x01];

/// Whole seconds, as responses have them.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

#[test]
fn a_good_answer_in_its_time_is_sent_and_others_are_named() {
    let (before, after) = (now() - DAY, Some(now() + 3 * DAY));
    let good = ocsp_response(SERIAL, GOOD, before, after);
    let cut = good[..good.len() - 1].to_vec();
    let more = [&good[..], b"\n"].concat();
    let pem = b"-----BEGIN OCSP RESPONSE-----\nMIIB\n-----END OCSP RESPONSE-----\n".to_vec();
    let rows: Vec<(Vec<u8>, Result<SystemTime, StapleFault>)> = vec![
        (good, Ok(now() + 3 * DAY)),
        (ocsp_response(SERIAL, GOOD, now() + SKEW, after), Ok(now() + 3 * DAY)),
        (Vec::new(), Err(StapleFault::Empty)),
        (b"good".to_vec(), Err(StapleFault::NotOcsp)),
        (pem, Err(StapleFault::NotOcsp)),
        (cut, Err(StapleFault::NotOcsp)),
        (more, Err(StapleFault::NotOcsp)),
        (vec![0x30, 3, 0x0a, 1, 3], Err(StapleFault::NoAnswer(3))),
        (vec![0x30, 3, 0x0a, 1, 0], Err(StapleFault::NotOcsp)),
        (ocsp_response(&[0x2a, 0x55, 0x02], GOOD, before, after), Err(StapleFault::OtherCertificate)),
        (ocsp_response(SERIAL, 0xa1, before, after), Err(StapleFault::Revoked)),
        (ocsp_response(SERIAL, 0x82, before, after), Err(StapleFault::Unknown)),
        (ocsp_response(SERIAL, GOOD, now() + DAY, after), Err(StapleFault::NotYetValid(now() + DAY))),
        (ocsp_response(SERIAL, GOOD, before, None), Err(StapleFault::Timeless)),
        (ocsp_response(SERIAL, GOOD, before, Some(now())), Err(StapleFault::Expired(now()))),
        (ocsp_response(SERIAL, GOOD, before, Some(before)), Err(StapleFault::Expired(before))),
    ];
    for (response, expected) in rows {
        let examined = examine(&response, SERIAL, now());
        assert_eq!(
            examined.as_ref().map(|staple| staple.until),
            expected.as_ref().copied(),
            "{}",
            response.escape_ascii()
        );
        assert!(examined.is_err() || examined.is_ok_and(|staple| staple.response == response));
    }
}

#[test]
fn a_pair_is_served_with_its_response_and_without_one_that_is_not_fit() {
    let (folder, leaf, now) = (Folder::new(), Authority::new().leaf(&["mail.example.net"]), SystemTime::now());
    let files = folder.pair(leaf.chain().as_bytes(), leaf.key.as_bytes());
    let examined = || {
        let checked = Identity::load(&files, now);
        let staple = checked.identity.as_ref().expect("it is served").staple().map(<[u8]>::to_vec);
        (staple, checked.findings.iter().map(ToString::to_string).collect::<Vec<_>>(), checked.is_sound())
    };
    assert_eq!(examined(), (None, Vec::new(), true), "none is no fault");

    let good = ocsp_response(&leaf.serial(), GOOD, now - DAY, Some(now + DAY));
    let beside = folder.path().join("chain.pem.ocsp");
    std::fs::write(&beside, &good).expect("writes");
    assert_eq!(examined(), (Some(good), Vec::new(), true));

    let old = ocsp_response(&leaf.serial(), GOOD, now - 2 * DAY, Some(now - DAY));
    for (bytes, words) in [(&b""[..], "it is empty"), (b"MIIB", "no OCSP response in DER"), (&old, "it expired on ")] {
        std::fs::write(&beside, bytes).expect("writes");
        let (staple, findings, is_sound) = examined();
        assert_eq!((staple, is_sound), (None, true), "{words}");
        assert!(findings.len() == 1 && findings[0].contains(words), "{findings:?}");
        assert!(findings[0].contains("chain.pem.ocsp is not sent to clients"), "{findings:?}");
    }
    std::fs::remove_file(&beside).expect("removes");
    std::fs::create_dir(&beside).expect("makes");
    let (staple, findings, is_sound) = examined();
    assert_eq!((staple, is_sound), (None, true));
    assert!(findings.len() == 1 && findings[0].contains("it cannot be read: it is not a file"), "{findings:?}");
    let codes: Vec<_> = Identity::load(&files, now).findings.iter().map(ChainFinding::code).collect();
    assert_eq!(codes, ["not_stapled"]);
}

proptest! {
    #[test]
    fn no_bytes_panic(
        mut response in prop::collection::vec(any::<u8>(), 0..80),
        place in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        if whole {
            let good = ocsp_response(SERIAL, GOOD, now() - DAY, Some(now() + DAY));
            let place = place.index(good.len());
            let end = (place + response.len()).min(good.len());
            response = [&good[..place], &response, &good[end..]].concat();
        }
        let _ = examine(&response, SERIAL, now());
    }
}
