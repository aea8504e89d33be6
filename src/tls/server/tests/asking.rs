//! Clients that are asked for certificates.

use super::super::super::testing::{DAY, Leaf, leaf_params};
use super::super::super::{Holder, failure_words};
use super::*;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CustomExtension, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::time::SystemTime;
use time::OffsetDateTime;

const BOTH: [&[&SupportedProtocolVersion]; 2] = [&[&TLS13], &[&TLS12]];

/// A gateway, and who signs its customers' certificates.
struct Customers {
    world: World,
    ca: Authority,
}

impl Customers {
    fn new() -> Self {
        let (world, ca) = (World::new(), Authority::new());
        world.tls.believe(&believed(&ca.root.pem())).expect("a CA");
        Self { world, ca }
    }

    fn joe(&self) -> Leaf {
        self.ca.sign(params("joe@example.net"), &key())
    }

    /// A client that has this certificate, or none.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], leaf: Option<&Leaf>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.world.ca.root.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = leaf.chain();
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        }
    }

    /// Shakes hands: whether it was resumed, and who came.
    fn meet(&self, demand: Demand, client: &ClientConfig) -> Result<(bool, Option<Holder>), Box<Failure>> {
        let mut client = self.world.start(client, "mail.example.net");
        let config = self.world.tls.config_for(Alpn::Imap, demand);
        let mut server = ServerConnection::new(config).expect("starts");
        drive(&mut client, &mut server)?;
        let holder = server.peer_certificates().and_then(Holder::of);
        Ok((Facts::of(&server, None).resumed, holder))
    }

    fn refused(&self, demand: Demand, client: &ClientConfig) -> (AlertDescription, &'static str, String) {
        let failure = self.meet(demand, client).expect_err("refused");
        let Error::AlertReceived(alert) = failure.client else { panic!("{failure:?}") };
        (alert, failure_reason(&failure.server), failure_words(&failure.server))
    }
}

fn believed(pem: &str) -> ClientCa {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), pem).expect("written");
    ClientCa::read(file.path(), SystemTime::now()).expect("CAs").0
}

fn params(address: &str) -> CertificateParams {
    let mut params = leaf_params(&[]);
    params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().expect("ASCII"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn name(holder: Option<Holder>) -> Option<String> {
    holder.expect("a certificate").name
}

#[test]
fn who_has_no_certificate_is_refused_where_one_is_required_and_served_where_one_is_requested() {
    let customers = Customers::new();
    for versions in BOTH {
        let without = customers.client(versions, None);
        let (alert, reason, words) = customers.refused(Demand::Require, &without);
        assert_eq!((alert, reason), (AlertDescription::CertificateRequired, "no_client_certificate"), "{words}");
        assert_eq!(customers.meet(Demand::Request, &without).expect("served").1, None);
        assert_eq!(customers.meet(Demand::Nothing, &without).expect("served").1, None);
        let joe = customers.client(versions, Some(&customers.joe()));
        for demand in [Demand::Require, Demand::Request] {
            assert_eq!(name(customers.meet(demand, &joe).expect("served").1).as_deref(), Some("joe@example.net"));
        }
        assert_eq!(customers.meet(Demand::Nothing, &joe).expect("served").1, None, "nobody has asked");
    }
}

#[test]
fn a_bad_certificate_is_refused_under_both_demands_and_the_fault_is_named() {
    let customers = Customers::new();
    let signed = |params: CertificateParams| customers.ca.sign(params, &key());
    let (mut old, mut new, mut server) = (params("a@example.net"), params("a@example.net"), params("a@example.net"));
    old.not_after = OffsetDateTime::from(SystemTime::now() - DAY / 24);
    new.not_before = OffsetDateTime::from(SystemTime::now() + DAY / 24);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut swollen = params("a@example.net");
    swollen.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![4; 13 * 1024])];
    let mut long = signed(params("a@example.net"));
    long.intermediate = long.intermediate.repeat(6);
    for (leaf, alert, words) in [
        (long, AlertDescription::CertificateUnknown, "6 certificates"),
        (signed(old), AlertDescription::CertificateExpired, "expired"),
        (signed(new), AlertDescription::CertificateExpired, "not valid yet"),
        (Authority::new().sign(params("a@example.net"), &key()), AlertDescription::UnknownCA, "tls.client_ca"),
        (signed(server), AlertDescription::UnsupportedCertificate, "other purposes"),
        (signed(swollen), AlertDescription::CertificateUnknown, "12288 octets"),
    ] {
        for (versions, demand) in BOTH.into_iter().flat_map(|v| [(v, Demand::Require), (v, Demand::Request)]) {
            let said = customers.refused(demand, &customers.client(versions, Some(&leaf)));
            assert_eq!((said.0, said.1), (alert, "client_certificate"), "{words}: {}", said.2);
            assert!(said.2.contains(words), "{}", said.2);
        }
    }
}

#[test]
fn no_ticket_is_a_way_around_a_certificate() {
    let customers = Customers::new();
    for versions in BOTH {
        // One client, with what it remembers, at one listener after the other.
        let stranger = customers.client(versions, None);
        assert!(!customers.meet(Demand::Nothing, &stranger).expect("served").0);
        assert!(customers.meet(Demand::Nothing, &stranger).expect("served").0, "it has a ticket");
        assert_eq!(customers.refused(Demand::Require, &stranger).1, "no_client_certificate");
        assert_eq!(customers.meet(Demand::Request, &stranger).expect("served"), (false, None));
        assert_eq!(customers.refused(Demand::Require, &stranger).1, "no_client_certificate");

        // Who has one proves it each time, and what he has got with it is worth nothing elsewhere.
        let joe = customers.client(versions, Some(&customers.joe()));
        for demand in [Demand::Require, Demand::Require, Demand::Request, Demand::Request] {
            let (resumed, holder) = customers.meet(demand, &joe).expect("served");
            assert!(!resumed && holder.is_some(), "{demand:?}");
        }
        assert_eq!(customers.meet(Demand::Nothing, &joe).expect("served"), (false, None));
    }
}

#[test]
fn who_is_believed_changes_with_the_next_handshake() {
    let customers = Customers::new();
    for versions in BOTH {
        let joe = customers.client(versions, Some(&customers.joe()));
        customers.meet(Demand::Require, &joe).expect("served");
        let shared = customers.world.tls.clone();
        shared.believe(&believed(&Authority::new().root.pem())).expect("another CA");
        assert_eq!(customers.refused(Demand::Require, &joe).0, AlertDescription::UnknownCA);
        shared.believe(&believed(&customers.ca.root.pem())).expect("the old one");
        customers.meet(Demand::Require, &joe).expect("served");
    }
}

#[test]
fn until_somebody_is_believed_nobody_is() {
    let mut customers = Customers::new();
    customers.world.tls = customers.world.tls.with_settings(Settings::default()).expect("a configuration");
    for versions in BOTH {
        let joe = customers.client(versions, Some(&customers.joe()));
        assert_eq!(customers.refused(Demand::Require, &joe).0, AlertDescription::UnknownCA);
        assert_eq!(customers.refused(Demand::Request, &joe).0, AlertDescription::UnknownCA);
        let without = customers.client(versions, None);
        assert_eq!(customers.refused(Demand::Require, &without).1, "no_client_certificate");
        customers.meet(Demand::Request, &without).expect("served");
    }
}

#[test]
fn a_revoked_certificate_is_refused_and_an_old_list_still_counts() {
    let customers = Customers::new();
    let (joe, ann) = (customers.joe(), customers.joe());
    let then = SystemTime::now() - 2 * DAY;
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from_slice(&joe.serial()),
        revocation_time: OffsetDateTime::from(then),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: OffsetDateTime::from(then),
        next_update: OffsetDateTime::from(then + DAY),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let mut issuer = ca_params("Test Intermediate");
    issuer.key_usages.push(KeyUsagePurpose::CrlSign);
    let list = list.signed_by(&Issuer::from_params(&issuer, customers.ca.intermediate.key()));
    let list = list.expect("signs").pem().expect("PEM");
    // The list is the intermediate's, so it is that which is believed here.
    let with_list = believed(&(customers.ca.intermediate.pem() + &list));
    customers.world.tls.believe(&with_list).expect("a CA and its list");
    for versions in BOTH {
        let said = customers.refused(Demand::Request, &customers.client(versions, Some(&joe)));
        assert_eq!(said.0, AlertDescription::CertificateRevoked, "{}", said.2);
        assert!(said.2.contains("is revoked"), "{}", said.2);
        customers.meet(Demand::Require, &customers.client(versions, Some(&ann))).expect("served");
    }
}
