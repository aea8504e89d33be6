//! Who may log in how.

use super::super::finding::quoted;
use super::super::nearest::nearest;
use super::super::report::{Report, Spot};
use super::super::sections;
use crate::policy::Auth;
use crate::proto::{Mechanism, Mechanisms};

pub(super) fn build(section: &sections::Auth, report: &mut Report) -> Auth {
    let spot = Spot::top("auth");
    let mechanisms = match &section.mechanisms {
        sections::Mechanisms::All => Mechanisms::All,
        sections::Mechanisms::Only(names) => Mechanisms::Only(listed(names, &spot.key("mechanisms"), report)),
    };
    if mechanisms == Mechanisms::Only(vec![]) {
        report.missing(
            &spot.key("mechanisms"),
            "is empty, and nobody could log in: write all, or a list such as [PLAIN, LOGIN, USER]",
        );
    }
    let clear = spot.key("without_tls");
    let without_tls = match section.without_tls.as_slice() {
        [] => Mechanisms::All,
        names => {
            let list = listed(names, &clear, report);
            for (index, mechanism) in list.iter().enumerate().filter(|(_, mechanism)| !mechanisms.contains(mechanism)) {
                let message = format!("`{mechanism}` is not among auth.mechanisms and so is never taken");
                report.warning(&clear.item(index), message);
            }
            Mechanisms::Only(list)
        }
    };
    Auth { mechanisms, without_tls, remember_good: section.remember_good.0, outage_guard: section.outage_guard }
}

fn listed(names: &[String], spot: &Spot, report: &mut Report) -> Vec<Mechanism> {
    let mut list = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(mechanism) = Mechanism::parse(name.as_bytes()) else {
            report.error(
                &spot.item(index),
                format_args!("{} is not a mechanism's name: write it like PLAIN or CRAM-MD5", quoted(name)),
            );
            continue;
        };
        if mechanism.is_forbidden() {
            report.warning(
                &spot.item(index),
                format_args!("`{mechanism}` cannot cross a gateway and is never offered: leave it out"),
            );
        } else if let Some(near) =
            nearest(mechanism.as_str(), Mechanism::well_known()).filter(|_| mechanism.label() == "other")
        {
            let message = format!("`{mechanism}` is not a mechanism that is known: `{near}` is meant?");
            report.warning(&spot.item(index), message);
        }
        list.push(mechanism);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_suggested_is_known() {
        for name in Mechanism::well_known() {
            let mechanism = Mechanism::parse(name.as_bytes()).expect(name);
            assert!(mechanism.label() == name && !mechanism.is_forbidden(), "{name}");
        }
    }
}
