//! nginx: its `mail` block (ngx_mail_core_module and its neighbours) and the mail ports of its `stream` block.

mod account;
mod mail;
mod shared;
mod stream;
mod syntax;

use super::ImportError;
use super::model::Imported;
use super::notes::Notes;
use super::reading::{self, Reading};
use std::path::{Path, PathBuf};
use syntax::Directive;

/// Reads an nginx.conf with what it includes.
pub(super) fn read(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Imported, ImportError> {
    let mut main = syntax::load(file, reading, notes)?;
    // A file that nginx.conf includes, from /etc/nginx/mail.d say, has the servers without the block around them.
    if main.iter().any(|directive| directive.name == "server") {
        let place = main[0].place.clone();
        let is_stream = |directive: &Directive| syntax::named(&directive.block, "proxy_pass").next().is_some();
        let name = if main.iter().any(is_stream) { "stream" } else { "mail" };
        main = vec![Directive { name: name.to_owned(), arguments: Vec::new(), block: main, place }];
    }
    let mut imported = Imported::default();
    let mut context = Context { imported: &mut imported, notes, folder: reading::folder(file), main: &main };
    account::look_at(&main, &account::MAIN, context.notes);
    for block in syntax::named(&main, "mail") {
        mail::read(&block.block, &mut context);
    }
    for block in syntax::named(&main, "stream") {
        stream::read(&block.block, &mut context);
    }
    if imported.listeners.is_empty() {
        return Err(ImportError::Nothing(format!(
            "{}: there is no server for mail in it: name the file that has the mail block, or a stream block with mail ports",
            file.display()
        )));
    }
    Ok(imported)
}

/// What the two readers share.
struct Context<'a> {
    imported: &'a mut Imported,
    notes: &'a mut Notes,
    /// nginx's own folder, where its relative paths begin.
    folder: PathBuf,
    main: &'a [Directive],
}
