//! OCSP responses as openssl makes them, and as it wants them to be sent.

use crate::clients::{client, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::{until, write};
use std::path::Path;

/// Has the authority answer for the gateway's certificate, which its index calls by `status` (V: valid, R: revoked).
fn answer(gateway: &Gatepost, status: &str, to: &Path) {
    let directory = gateway.authority().parent().expect("a file in a directory").to_owned();
    let openssl = |arguments: &str| {
        let mut openssl = client("openssl");
        openssl.current_dir(&directory).args(arguments.split_whitespace());
        output_of(openssl, b"")
    };
    let serial = openssl("x509 -in chain0.pem -noout -serial");
    let serial = serial.trim().strip_prefix("serial=").expect("as openssl writes it");
    let revoked = if status == "R" { "260101000000Z" } else { "" };
    write(&directory.join("index.txt"), format!("{status}\t490101000000Z\t{revoked}\t{serial}\tunknown\t/CN=x\n"));
    openssl("ocsp -issuer ca.pem -cert chain0.pem -no_nonce -reqout request.der");
    openssl(
        "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -reqin request.der -ndays 7 -respout answer.der",
    );
    // As a careful script puts it there: whole at once.
    std::fs::rename(directory.join("answer.der"), to).expect("one file system");
}

/// What `s_client` sees when it asks for the status.
fn seen(gateway: &Gatepost, version: &str) -> String {
    let mut openssl = client("openssl");
    openssl.args(["s_client", "-connect", &gateway.at(993).to_string(), "-status", version, "-ign_eof", "-CAfile"]);
    openssl.arg(gateway.authority());
    run(openssl, b"a LOGOUT\r\n").said
}

#[test]
fn a_response_beside_the_chain_is_sent_while_it_is_good() {
    let gateway = Gatepost::start(Backend { smtp: None, pop3: None, ..Backend::usual() }, "");
    let beside = gateway.authority().with_file_name("chain0.pem.ocsp");
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(seen(&gateway, version).contains("OCSP response: no response sent"), "{version}");
    }
    let stapled = |wanted: bool| {
        until("the file to be looked at", || {
            let said = seen(&gateway, "-tls1_3");
            (said.contains("OCSP Response Status: successful") == wanted).then_some(said)
        })
    };

    answer(&gateway, "V", &beside);
    let said = stapled(true);
    assert!(said.contains("Cert Status: good"), "{said}");
    let said = seen(&gateway, "-tls1_2");
    assert!(said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"), "{said}");
    gateway.event_where("that it is sent", |event| {
        event["event"] == "certificate.loaded"
            && event["detail"].as_str().is_some_and(|d| d.contains("with an OCSP response"))
    });
    answer(&gateway, "R", &beside);
    stapled(false);
    until("the log to say why", || {
        gateway.log().lines().any(|line| line.contains("chain0.pem.ocsp") && line.contains("is revoked")).then_some(())
    });
    std::fs::remove_file(&beside).expect("it is there");
    assert!(seen(&gateway, "-tls1_3").contains("no response sent"));
}
