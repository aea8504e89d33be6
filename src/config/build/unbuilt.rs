//! Keys of features that are not built. Each is refused unless it says what its absence means: silence about a rule
//! that is not enforced would be worse than no rule.

use super::super::report::{Report, Spot};
use super::super::sections::{File, Stage, StageAction};

/// Reports every key that asks for something that is not there.
pub(super) fn refuse(file: &File, report: &mut Report) {
    let mut unless = |off: bool, spot: Spot, cure: &str| {
        if !off {
            report.error(&spot, format_args!("not in this version: {cure}"));
        }
    };
    let top = Spot::top;
    // The value is not shown: a store's address may hold its password.
    unless(file.store == "memory", top("store"), "write memory, or leave it out");

    let (plaintext, section) = (top("plaintext"), &file.plaintext);
    unless(
        section.stages.iter().all(only_observes),
        plaintext.key("stages"),
        "only [{ action: observe }] may stand here",
    );
    unless(!section.ratchet, plaintext.key("ratchet"), "write false, or leave it out");
    unless(section.exempt.is_empty(), plaintext.key("exempt"), "leave it out, or write []");
    unless(section.help_url.is_none(), plaintext.key("help_url"), "leave it out");
    unless(section.timezone == "UTC", plaintext.key("timezone"), "write UTC, or leave it out");

    unless(file.admin.token.is_none(), top("admin").key("token"), "leave it out, and use the socket");
}

fn only_observes(stage: &Stage) -> bool {
    stage.action == StageAction::Observe && stage.from.is_none() && stage.windows.is_empty() && stage.share.is_none()
}
