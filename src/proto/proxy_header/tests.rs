use super::*;

#[test]
fn what_is_written_for_a_backend_is_what_is_read_from_a_load_balancer() {
    let ends = |client: &str, local: &str| {
        Some((client.parse().expect("an address of the test"), local.parse().expect("an address of the test")))
    };
    let rows = [
        (ends("192.0.2.7:56324", "198.51.100.1:993"), "PROXY TCP4 192.0.2.7 198.51.100.1 56324 993\r\n"),
        (ends("[2001:db8::7]:1", "[::1]:993"), "PROXY TCP6 2001:db8::7 ::1 1 993\r\n"),
        (ends("[2001:db8::7]:1", "192.0.2.1:993"), "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 1 993\r\n"),
        (ends("192.0.2.7:1", "[::1]:993"), "PROXY TCP6 ::ffff:192.0.2.7 ::1 1 993\r\n"),
        (None, "PROXY UNKNOWN\r\n"),
    ];
    for (ends, line) in rows {
        assert_eq!(String::from_utf8_lossy(&introduce(Version::One, ends)), line);
        for version in [Version::One, Version::Two] {
            let header = introduce(version, ends);
            let read = parse(&header).expect("a header").expect("a whole one");
            assert_eq!(
                (read.source, read.length),
                (ends.map(|(client, _)| client), header.len()),
                "{line} {version:?}"
            );
        }
    }
    assert_eq!(introduce(Version::Two, None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}
use proptest::prelude::*;

const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;

fn v2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let announced = u16::try_from(block.len()).expect("a short block");
    [&V2[..], &[version_and_command, family], &announced.to_be_bytes(), block].concat()
}

/// 192.0.2.7:56324 to 198.51.100.1:993.
fn four() -> Vec<u8> {
    vec![192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x03, 0xe1]
}

/// From `source` port 56324 to ::1 port 993.
fn six(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().expect("an address");
    [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0xdc, 0x04, 0x03, 0xe1]].concat()
}

/// TLVs of this many bytes: a NOOP (section 2.2.4).
fn noop(length: u16) -> Vec<u8> {
    let mut tlv = vec![0x04];
    tlv.extend((length - 3).to_be_bytes());
    tlv.resize(length.into(), 0);
    tlv
}

/// Headers, and whose connection they say it is.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let longest_unknown = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_V1 - 16));
    let unix = [&[b'/'; 216][..], &noop(10)].concat();
    vec![
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 993\r\n".to_vec(), Some("192.0.2.7:56324")),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(), Some("255.255.255.255:65535")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n".to_vec(), Some("192.0.2.7:0")),
        (b"PROXY TCP6 2001:db8::7 ::1 56324 993\r\n".to_vec(), Some("[2001:db8::7]:56324")),
        (b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 ::1 56324 993\r\n".to_vec(), Some("[2001:db8::7]:56324")),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 56324 993\r\n".to_vec(), Some("192.0.2.7:56324")),
        (b"PROXY TCP6 ::ffff:c000:207 ::1 56324 993\r\n".to_vec(), Some("192.0.2.7:56324")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 56324 993\r\n".to_vec(), None),
        (b"PROXY UNKNOWN \xff\0 what not\r\n".to_vec(), None),
        (longest_unknown.into_bytes(), None),
        (v2(PROXY, 0x11, &four()), Some("192.0.2.7:56324")),
        (v2(PROXY, 0x11, &[four(), noop(100)].concat()), Some("192.0.2.7:56324")),
        (v2(PROXY, 0x11, &[four(), noop(508)].concat()), Some("192.0.2.7:56324")),
        // A TLV that says it is longer than the header: it is skipped as the header's length says.
        (v2(PROXY, 0x11, &[four(), vec![0x02, 0xff, 0xff, b'x']].concat()), Some("192.0.2.7:56324")),
        (v2(PROXY, 0x11, &[four(), vec![0x02]].concat()), Some("192.0.2.7:56324")),
        (v2(PROXY, 0x21, &six("2001:db8::7")), Some("[2001:db8::7]:56324")),
        (v2(PROXY, 0x21, &six("::ffff:192.0.2.7")), Some("192.0.2.7:56324")),
        (v2(PROXY, 0x21, &[six("2001:db8::7"), noop(20)].concat()), Some("[2001:db8::7]:56324")),
        (v2(PROXY, 0x00, &[]), None),
        (v2(PROXY, 0x00, &four()), None),
        (v2(PROXY, 0x10, &four()), None),
        (v2(PROXY, 0x12, &four()), None),
        (v2(PROXY, 0x22, &six("2001:db8::7")), None),
        (v2(PROXY, 0x31, &unix), None),
        (v2(LOCAL, 0x00, &[]), None),
        (v2(LOCAL, 0x11, &four()), None),
        (v2(LOCAL, 0x11, &[1, 2]), None),
        (v2(LOCAL, 0xff, &noop(520)), None),
    ]
}

#[test]
fn a_header_says_whose_connection_it_is_and_where_the_clients_bytes_begin() {
    for (header, source) in headers() {
        let expected = Header { source: source.map(|text| text.parse().expect("an address")), length: header.len() };
        for client in [&b""[..], b"\x16\x03\x01\x02\x00", b"\r\n", b"a1 NOOP\r\n"] {
            let bytes = [&header[..], client].concat();
            assert_eq!(parse(&bytes), Ok(Some(expected)), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a_header_cut_anywhere_is_waited_for() {
    for (header, _) in headers() {
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(None), "{} of {}", cut, header.escape_ascii());
        }
    }
}

#[test]
fn what_is_no_header_is_refused_by_name() {
    use Violation::*;
    let line = |rest: &str| format!("PROXY {rest}\r\n").into_bytes();
    let rows: Vec<(Vec<u8>, Violation)> = vec![
        // No header at all: a ClientHello, commands, another's protocol, the right word in the wrong form.
        (b"\x16\x03\x01\x02\x00\x01".to_vec(), NoHeader),
        (b"EHLO x\r\n".to_vec(), NoHeader),
        (b"GET / HTTP/1.1\r\n".to_vec(), NoHeader),
        (b"\0".to_vec(), NoHeader),
        (b"P ".to_vec(), NoHeader),
        (b"PROXY\r\n".to_vec(), NoHeader),
        (b"PROXY\tTCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(), NoHeader),
        (b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(), NoHeader),
        (b" PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(), NoHeader),
        (b"\r\nPROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(), NoHeader),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), NoHeader),
        // The line's end.
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n".to_vec(), BareLineEnd),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\rA".to_vec(), BareLineEnd),
        (b"PROXY UNKNOWN a\nb\r\n".to_vec(), BareLineEnd),
        (b"PROXY UNKNOWN a\r\r\n".to_vec(), BareLineEnd),
        (format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_V1 - 15)).into_bytes(), EndlessLine),
        (format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_V1 - 14)).into_bytes(), EndlessLine),
        (format!("PROXY {}", " ".repeat(MAX_V1)).into_bytes(), EndlessLine),
        // The family.
        (line(""), UnknownFamily),
        (line("TCP"), UnknownFamily),
        (line("TCP5 192.0.2.7 198.51.100.1 1 2"), UnknownFamily),
        (line("tcp4 192.0.2.7 198.51.100.1 1 2"), UnknownFamily),
        (line("UDP4 192.0.2.7 198.51.100.1 1 2"), UnknownFamily),
        (line("UNKNOWNS"), UnknownFamily),
        (line("unknown"), UnknownFamily),
        (line(" TCP4 192.0.2.7 198.51.100.1 1 2"), UnknownFamily),
        // The fields.
        (line("TCP4"), Fields),
        (line("TCP4 192.0.2.7 198.51.100.1 1"), Fields),
        (line("TCP4 192.0.2.7 198.51.100.1 1 2 3"), Fields),
        (line("TCP4 192.0.2.7 198.51.100.1 1 2 "), Fields),
        (line("TCP4  192.0.2.7 198.51.100.1 1 2"), Fields),
        // The addresses.
        (line("TCP4 192.0.2.256 198.51.100.1 1 2"), Address),
        (line("TCP4 192.0.2.07 198.51.100.1 1 2"), Address),
        (line("TCP4 192.0.2 198.51.100.1 1 2"), Address),
        (line("TCP4 192.0.2.7/32 198.51.100.1 1 2"), Address),
        (line("TCP4 mail.example.net 198.51.100.1 1 2"), Address),
        (line("TCP4 192.0.2.7 198.51.100.1. 1 2"), Address),
        (line("TCP4 2001:db8::7 ::1 1 2"), Address),
        (line("TCP4 192.0.2.7 ::1 1 2"), Address),
        (line("TCP4 192.0.2.7\0 198.51.100.1 1 2"), Address),
        (line("TCP6 192.0.2.7 198.51.100.1 1 2"), Address),
        (line("TCP6 2001:db8::7::1 ::1 1 2"), Address),
        (line("TCP6 [2001:db8::7] ::1 1 2"), Address),
        (line("TCP6 fe80::7%eth0 ::1 1 2"), Address),
        (line("TCP6 :::7 ::1 1 2"), Address),
        (b"PROXY TCP4 192.0.2.\xb2 198.51.100.1 1 2\r\n".to_vec(), Address),
        // The ports.
        (line("TCP4 192.0.2.7 198.51.100.1 65536 2"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1 1 4294967298"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1 01 2"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1 00 2"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1 +1 2"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1 -1 2"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1 1 2a"), Port),
        (line("TCP4 192.0.2.7 198.51.100.1  2"), Port),
        // Version 2.
        (v2(0x11, 0x11, &four()), Version(1)),
        (v2(0x31, 0x11, &four()), Version(3)),
        (v2(0x01, 0x11, &four()), Version(0)),
        (v2(0x22, 0x11, &four()), Command(2)),
        (v2(0x2f, 0x11, &four()), Command(15)),
        (v2(PROXY, 0x41, &six("::1")), Family(0x41)),
        (v2(PROXY, 0x13, &four()), Family(0x13)),
        (v2(PROXY, 0xff, &four()), Family(0xff)),
        (v2(PROXY, 0x11, &[]), TooShort),
        (v2(PROXY, 0x11, &four()[..11]), TooShort),
        (v2(PROXY, 0x21, &six("::1")[..35]), TooShort),
        (v2(PROXY, 0x21, &four()), TooShort),
        (v2(PROXY, 0x11, &[four(), noop(509)].concat()), TooLong(521)),
        (v2(LOCAL, 0x00, &noop(65_000)), TooLong(65_000)),
    ];
    for (bytes, violation) in rows {
        assert_eq!(parse(&bytes), Err(violation), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_sin_is_named_as_soon_as_it_is_there() {
    for (bytes, at) in [
        (v2(0x31, 0x11, &four()), 13),
        (v2(0x2f, 0x11, &four()), 13),
        (v2(PROXY, 0xff, &four()), 16),
        (v2(PROXY, 0x21, &four()), 16),
        (v2(PROXY, 0x11, &noop(600)), 16),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n".to_vec(), 38),
        (b"PROXY!TCP4".to_vec(), 6),
    ] {
        assert_eq!(parse(&bytes[..at - 1]), Ok(None), "{}", bytes.escape_ascii());
        assert!(parse(&bytes[..at]).is_err(), "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_nor_are_waited_for_past_the_bound(
        like in 0_usize..4,
        mut bytes in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let beginning: &[u8] = [&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00"][like];
        bytes.splice(0..0, beginning.iter().copied());
        match parse(&bytes) {
            Ok(Some(header)) => prop_assert!(header.length <= bytes.len() && header.length <= MAX),
            Ok(None) => prop_assert!(bytes.len() < MAX),
            Err(_) => {}
        }
    }

    #[test]
    fn what_follows_does_not_change_what_was_read(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        with in any::<u8>(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let headers = headers();
        let mut bytes = headers[which.index(headers.len())].0.clone();
        let place = place.index(bytes.len());
        bytes[place] = with;
        let longer = [&bytes[..], &rest].concat();
        match parse(&bytes) {
            Ok(None) => {}
            decided => prop_assert_eq!(parse(&longer), decided),
        }
    }

    #[test]
    fn every_line_and_block_of_addresses_says_the_same_in_both_versions(
        source in any::<IpAddr>(), destination in any::<IpAddr>(), from in any::<u16>(), to in any::<u16>(),
    ) {
        let (family, kind, source_block, destination_block, destination) = match (source, destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => ("TCP4", 0x11, a.octets().to_vec(), b.octets().to_vec(), destination),
            (IpAddr::V4(a), IpAddr::V6(_)) => ("TCP4", 0x11, a.octets().to_vec(), vec![127, 0, 0, 1], [127, 0, 0, 1].into()),
            (IpAddr::V6(a), IpAddr::V6(b)) => ("TCP6", 0x21, a.octets().to_vec(), b.octets().to_vec(), destination),
            (IpAddr::V6(a), IpAddr::V4(b)) => {
                ("TCP6", 0x21, a.octets().to_vec(), b.to_ipv6_mapped().octets().to_vec(), b.to_ipv6_mapped().into())
            }
        };
        let line = format!("PROXY {family} {source} {destination} {from} {to}\r\n").into_bytes();
        let block = [source_block, destination_block, from.to_be_bytes().to_vec(), to.to_be_bytes().to_vec()].concat();
        let expected = Some(SocketAddr::new(source.to_canonical(), from));
        for bytes in [line, v2(PROXY, kind, &block)] {
            prop_assert_eq!(parse(&bytes), Ok(Some(Header { source: expected, length: bytes.len() })));
        }
    }
}
