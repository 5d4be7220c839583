#!/usr/bin/env bash
# saphyr-parser 0.3.3: whether an anchor ends with its document depends on how the parser is driven.
# An alias to an anchor of an earlier document is refused by `Parser::load` ("found unknown anchor"), as YAML 1.2.2 wants
# it (3.2.2.2: an alias refers to the most recent preceding node of its own document's serialisation), and is accepted by
# the pull side of the same parser (`next_event`), which gives the id of the earlier anchor.
# Whoever pulls events must forget the ids of earlier documents himself.
# Needs cargo and the crate registry. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export CARGO_TARGET_DIR=$work/target
cargo init --quiet --name seen --vcs none .
cargo add --quiet saphyr-parser@=0.3.3
cat >src/main.rs <<'R'
use saphyr_parser::{Event, EventReceiver, Parser};

struct Ignored;
impl<'a> EventReceiver<'a> for Ignored {
    fn on_event(&mut self, _: Event<'a>) {}
}

const TWO: &str = "a: &x 1\n---\nb: *x\n";

fn main() {
    let pushed = Parser::new_from_str(TWO).load(&mut Ignored, true);
    println!("load: {}", if pushed.is_err() { "refused" } else { "accepted" });
    let mut parser = Parser::new_from_str(TWO);
    let mut pulled = "no alias";
    loop {
        match parser.next_event() {
            Some(Ok((Event::Alias(1), _))) => pulled = "accepted, as anchor 1",
            Some(Err(_)) => pulled = "refused",
            Some(Ok((Event::StreamEnd, _))) | None => break,
            Some(Ok(_)) => continue,
        }
        if pulled == "refused" {
            break;
        }
    }
    println!("next_event: {pulled}");
}
R
cargo run --quiet >said
cat said
diff said - <<'S'
load: refused
next_event: accepted, as anchor 1
S
