//! stub

use super::*;
/// stub
pub struct ImapFront;
impl ImapFront {
    /// stub
    pub fn new(_: FrontSettings) -> Self {
        Self
    }
}
impl Front for ImapFront {
    fn greet(&mut self, _: &Capabilities, _: &mut BytesMut) {}
    fn turn_away(&mut self, _: Refusal, _: &mut BytesMut) {}
    fn next(&mut self, _: &mut BytesMut, _: &mut BytesMut) -> Result<Step, Violation> {
        Ok(Step::More)
    }
    fn answer(&mut self, _: Answer<'_>, _: &mut BytesMut) {}
    fn secured(&mut self, _: &Capabilities) {}
}
/// stub
pub struct ImapBack;
impl ImapBack {
    /// stub
    pub fn new(_: BackSettings) -> Self {
        Self
    }
}
impl Back for ImapBack {
    fn next(&mut self, _: &mut BytesMut, _: &mut BytesMut) -> Result<BackStep, BackFault> {
        Ok(BackStep::More)
    }
    fn login(&mut self, _: &Login, _: &mut BytesMut) -> Result<(), BackFault> {
        Ok(())
    }
    fn respond(&mut self, _: &[u8], _: &mut BytesMut) {}
    fn quit(&mut self, _: &mut BytesMut) {}
}
