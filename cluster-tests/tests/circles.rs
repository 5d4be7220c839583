//! The modules inside each crate, held against the rule that they import each other without circles.
//!
//! A file needs another if its code, tests left out, names what the other defines. To pass a name on is not
//! to need it, and neither is to call a method, or to name a module and nothing in it. Two things are not
//! seen: a trait that comes by a glob and is used through its methods alone, and what comes by a glob from a
//! macro that made it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Ident, Lit, Meta, UseTree, Visibility};

/// What a name leads to. An item is told by the file that defines it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Item(usize, String),
    Module(usize),
}

/// What each name leads to: to nothing if it comes from outside, to both if a module and a function share it.
type Names = BTreeMap<String, BTreeSet<Target>>;

#[derive(Clone, PartialEq)]
struct Module {
    file: usize,
    parent: usize,
    names: Names,
}

/// Who names what of whom, by file.
type Arrows = BTreeMap<(usize, usize), BTreeSet<String>>;

/// All that is reached from one root file. Module 0 is the root.
#[derive(Clone, Default)]
struct Tree {
    files: Vec<String>,
    modules: Vec<Module>,
    /// Every `use`: the module, the name that it brings, and its path. Both end with `*` if it is a glob.
    uses: Vec<(usize, String, Vec<String>)>,
    /// Every path that counts: the module, itself, and whether it is a `use`.
    mentions: Vec<(usize, Vec<String>, bool)>,
}

impl Tree {
    fn of(src: &Path, root: &Path) -> Tree {
        let mut tree = Tree::default();
        tree.modules.push(Module { file: 0, parent: 0, names: Names::new() });
        read_file(&mut tree, src, 0, root, root.with_file_name(""));
        let written = tree.modules.clone();
        // What no `use` has brought in the end is made by a macro, which is not expanded here.
        for is_all_brought in [false, true] {
            while tree.follow_uses(&written, is_all_brought) {}
        }
        tree
    }

    /// Gives each module what its `use`s lead to so far, and says whether that was anything new.
    fn follow_uses(&mut self, written: &[Module], is_all_brought: bool) -> bool {
        let before = self.clone();
        for (at, name, path) in &before.uses {
            let names = &mut self.modules[*at].names;
            for target in before.walk(*at, path, is_all_brought) {
                if name != "*" {
                    names.entry(name.clone()).or_default().insert(target);
                } else if let Target::Module(whole) = target {
                    let all = before.modules[whole].names.clone().into_iter();
                    // What is written out goes before what a glob brings.
                    for (name, targets) in all.filter(|(it, _)| !written[*at].names.contains_key(it)) {
                        names.entry(name).or_default().extend(targets);
                    }
                }
            }
        }
        before.modules != self.modules
    }

    fn step(&self, module: usize, name: &str) -> Option<BTreeSet<Target>> {
        match name {
            "crate" => Some([Target::Module(0)].into()),
            "self" | "*" => Some([Target::Module(module)].into()),
            "super" => Some([Target::Module(self.modules[module].parent)].into()),
            name => self.modules[module].names.get(name).cloned(),
        }
    }

    fn walk(&self, module: usize, path: &[String], is_all_brought: bool) -> BTreeSet<Target> {
        let mut found = self.step(module, &path[0]).unwrap_or_default();
        for name in &path[1..] {
            // Past a type follows what belongs to it, and that is not counted by itself.
            if !found.iter().any(|it| matches!(it, Target::Module(_))) {
                break;
            }
            for target in std::mem::take(&mut found) {
                let Target::Module(module) = target else { continue };
                let made = is_all_brought.then(|| Target::Item(self.modules[module].file, name.clone()));
                found.extend(self.step(module, name).unwrap_or_else(|| made.into_iter().collect()));
            }
        }
        found
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (module, path, is_use) in &self.mentions {
            let (from, found) = (self.modules[*module].file, self.walk(*module, path, true));
            // What is needed of a module, or whether a function of its name is meant, the code tells.
            let is_open = *is_use && found.iter().any(|it| matches!(it, Target::Module(_)));
            for target in found {
                match target {
                    Target::Item(to, name) if to != from && !is_open => {
                        arrows.entry((from, to)).or_default().insert(name);
                    }
                    _ => {}
                }
            }
        }
        arrows
    }

    /// A shortest circle through each set of files that need each other.
    fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let way = |from, to| shortest_way(&arrows, from, to);
        let (mut seen, mut circles) = (BTreeSet::new(), Vec::new());
        for file in 0..self.files.len() {
            let is_tied = |it: &usize| way(file, *it).is_some() && way(*it, file).is_some();
            if seen.contains(&file) || !is_tied(&file) {
                continue;
            }
            let tied: Vec<usize> = (0..self.files.len()).filter(is_tied).collect();
            let shortest = tied.iter().filter_map(|it| way(*it, *it)).min_by_key(Vec::len);
            let shortest = shortest.expect("the first of them is on a circle");
            let mut chain = self.files[shortest[0]].clone();
            for pair in shortest.windows(2) {
                let names: Vec<&str> = arrows[&(pair[0], pair[1])].iter().map(String::as_str).collect();
                chain.push_str(&format!(" -> {} ({})", self.files[pair[1]], names.join(", ")));
            }
            circles.push(format!("{chain}, {} files in all", tied.len()));
            seen.extend(tied);
        }
        circles
    }
}

/// The files on a shortest way of at least one arrow.
fn shortest_way(arrows: &Arrows, from: usize, to: usize) -> Option<Vec<usize>> {
    let (mut ways, mut seen) = (VecDeque::from([vec![from]]), BTreeSet::new());
    while let Some(way) = ways.pop_front() {
        let last = way[way.len() - 1];
        if way.len() > 1 && last == to {
            return Some(way);
        }
        let next = arrows.keys().filter(|(it, _)| *it == last).map(|(_, next)| *next);
        ways.extend(next.filter(|it| seen.insert(*it)).map(|it| [&way[..], &[it]].concat()));
    }
    None
}

/// Notes what each module defines, brings and mentions.
struct Reader<'t> {
    tree: &'t mut Tree,
    src: &'t Path,
    module: usize,
    /// Where the files of its modules lie, and what a `#[path]` begins at.
    folder: PathBuf,
    beside: PathBuf,
}

/// Reads the file of a module, and those of the modules in it, which lie in `folder`.
fn read_file(tree: &mut Tree, src: &Path, module: usize, path: &Path, folder: PathBuf) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    tree.modules[module].file = tree.files.len();
    tree.files.push(path.strip_prefix(src).unwrap_or(path).display().to_string());
    if !is_for_tests(&file.attrs) {
        Reader { tree, src, module, folder, beside: path.with_file_name("") }.visit_file(&file);
    }
}

impl Reader<'_> {
    fn define(&mut self, name: String) {
        let module = &mut self.tree.modules[self.module];
        module.names.entry(name.clone()).or_default().insert(Target::Item(module.file, name));
    }

    fn define_macro(&mut self, item: &syn::ItemMacro) {
        item.ident.iter().flat_map(|it| [text(it), text(it) + "!"]).for_each(|it| self.define(it));
    }

    fn mention(&mut self, path: Vec<String>, is_use: bool) {
        self.tree.mentions.push((self.module, path, is_use));
    }

    fn bring(&mut self, item: &syn::ItemUse) {
        // `::name` is outside, and nothing inside is called `::`.
        let begin = item.leading_colon.map(|_| "::".to_owned()).into_iter().collect();
        for (name, path) in leaves(&item.tree, begin) {
            if matches!(item.vis, Visibility::Inherited) {
                self.mention(path.clone(), true);
            }
            self.tree.modules[self.module].names.entry(name.clone()).or_default();
            self.tree.uses.push((self.module, name, path));
        }
    }

    /// Mentions whatever looks like a path in what a macro is given.
    fn scan(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mark =
            |at: usize| if let Some(TokenTree::Punct(it)) = trees.get(at) { it.as_char() } else { ' ' };
        let name =
            |at: usize| if let Some(TokenTree::Ident(it)) = trees.get(at) { Some(text(it)) } else { None };
        for (at, tree) in trees.iter().enumerate() {
            if let TokenTree::Group(group) = tree {
                self.scan(group.stream());
            }
            let Some(first) = name(at) else { continue };
            let (mut path, mut end) = (vec![first], at + 1);
            while (mark(end), mark(end + 1)) == (':', ':')
                && let Some(next) = name(end + 2)
            {
                path.push(next);
                end += 3;
            }
            let before = (mark(at.wrapping_sub(2)), mark(at.wrapping_sub(1)));
            let is_field = before.1 == '.' && before.0 != '.';
            let is_rest = before == (':', ':') || before.1 == '\'' || before.1 == '$' && path[0] != "crate";
            let is_key = path.len() == 1 && mark(end) == ':' && mark(end + 1) != ':';
            if path.len() == 1 && mark(end) == '!' && mark(end + 1) == ' ' {
                path[0].push('!');
            }
            if !is_field && !is_rest && !is_key {
                self.mention(path, false);
            }
        }
    }
}

/// Visits what is not for tests alone, and first defines its name or does what is told.
macro_rules! visit_all {
    ($($visit:ident($node:ident $(, $($name:ident).+)? $(=> $note:ident)?))*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if !is_for_tests(&node.attrs) {
                $(self.define(text(&node.$($name).+));)?
                $(self.$note(node);)?
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Reader<'_> {
    visit_all! {
        visit_item_const(ItemConst, ident) visit_item_enum(ItemEnum, ident) visit_item_fn(ItemFn, sig.ident)
        visit_item_static(ItemStatic, ident) visit_item_struct(ItemStruct, ident)
        visit_item_trait(ItemTrait, ident) visit_item_type(ItemType, ident) visit_item_union(ItemUnion, ident)
        visit_item_use(ItemUse => bring) visit_item_macro(ItemMacro => define_macro) visit_item_impl(ItemImpl)
        visit_impl_item_const(ImplItemConst) visit_impl_item_fn(ImplItemFn)
        visit_impl_item_type(ImplItemType) visit_trait_item_fn(TraitItemFn) visit_field(Field)
        visit_variant(Variant) visit_arm(Arm) visit_field_value(FieldValue) visit_local(Local)
        visit_stmt_macro(StmtMacro) visit_expr_block(ExprBlock)
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let (name, parent, child) = (text(&item.ident), self.module, self.tree.modules.len());
        let outer = &mut self.tree.modules[parent];
        outer.names.entry(name.clone()).or_default().insert(Target::Module(child));
        // A macro is known without a path to the modules that follow it.
        let names = outer.names.clone().into_iter().filter(|(name, _)| name.ends_with('!')).collect();
        let file = outer.file;
        self.tree.modules.push(Module { file, parent, names });
        let folder = self.folder.join(&name);
        if let Some((_, items)) = &item.content {
            let (tree, src, beside) = (&mut *self.tree, self.src, folder.clone());
            let mut inner = Reader { tree, src, module: child, folder, beside };
            return items.iter().for_each(|it| inner.visit_item(it));
        }
        let flat = self.folder.join(format!("{name}.rs"));
        let (path, folder) = match item.attrs.iter().find_map(path_of).map(|it| self.beside.join(it)) {
            Some(path) => (path.clone(), path.with_file_name("")),
            None if flat.exists() => (flat, folder),
            None => (folder.join("mod.rs"), folder),
        };
        read_file(self.tree, self.src, child, &path, folder);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.mention(path.segments.iter().map(|it| text(&it.ident)).collect(), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        // It may be a constant. A variable is rather taken for a function of its name than a function missed.
        self.mention(vec![text(&pattern.ident)], false);
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        match call.path.get_ident() {
            Some(name) => self.mention(vec![text(name) + "!"], false),
            None => self.visit_path(&call.path),
        }
        self.scan(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.scan(list.tokens.clone());
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Every name that a `use` brings, with its path.
fn leaves(tree: &UseTree, mut path: Vec<String>) -> Vec<(String, Vec<String>)> {
    let (last, name) = match tree {
        UseTree::Group(it) => return it.items.iter().flat_map(|it| leaves(it, path.clone())).collect(),
        UseTree::Path(it) => {
            path.push(text(&it.ident));
            return leaves(&it.tree, path);
        }
        UseTree::Glob(_) => ("*".to_owned(), None),
        UseTree::Name(it) => (text(&it.ident), None),
        UseTree::Rename(it) => (text(&it.ident), Some(text(&it.rename))),
    };
    // `room::{self}` brings the room.
    let of_itself = path.last().filter(|_| last == "self").cloned();
    path.push(last.clone());
    vec![(name.or(of_itself).unwrap_or(last), path)]
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|it| it.path().is_ident("cfg"));
    let mut conditions =
        conditions.filter_map(|it| it.meta.require_list().ok()).map(|it| it.tokens.to_string());
    conditions.any(|it| it == "test" || it.replace(' ', "").starts_with("all(test,"))
}

/// What a `#[path = ".."]` says.
fn path_of(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let Expr::Lit(syn::ExprLit { lit: Lit::Str(path), .. }) = &pair.value else { return None };
    pair.path.is_ident("path").then(|| path.value())
}

/// Every circle of a crate. Its library and each of its programs are trees of their own.
fn circles_in(folder: &Path) -> Vec<String> {
    let src = folder.join("src");
    let programs = fs::read_dir(src.join("bin")).into_iter().flatten().map(|it| it.expect("an entry").path());
    let mut roots: Vec<PathBuf> =
        programs.map(|it| if it.is_dir() { it.join("main.rs") } else { it }).collect();
    roots.extend([src.join("lib.rs"), src.join("main.rs")]);
    roots.retain(|it| it.extension().is_some_and(|it| it == "rs") && it.exists());
    roots.sort();
    assert!(!roots.is_empty(), "{} has no root file", src.display());
    roots.iter().flat_map(|it| Tree::of(&src, it).circles()).collect()
}

#[test]
fn the_modules_of_no_crate_import_each_other_in_a_circle() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let mut circles = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().expect("its folder");
        circles.extend(circles_in(folder.as_std_path()).iter().map(|it| format!("{}: {it}", package.name)));
    }
    assert!(circles.is_empty(), "these files need each other:\n{}", circles.join("\n"));
}

/// Holds small crates against their headlines: a law, and the circle that is to be found. The lines of their
/// files follow; beside them there are always a root that says `mod a; mod b;`, and those two.
fn check(crates: &str) {
    for one in crates.split("== ").skip(1) {
        let (headline, lines) = one.split_once('\n').expect("files follow");
        let (law, circle) = headline.split_once(": ").unwrap_or((headline, ""));
        let mut files = BTreeMap::from([("lib.rs", "mod a; mod b;".to_owned())]);
        for line in ["a.rs: ", "b.rs: "].into_iter().chain(lines.lines().filter(|it| !it.is_empty())) {
            let (path, text) = line.split_once(": ").expect("a path, and what the file says");
            files.entry(path).or_default().push_str(text);
        }
        let folder = tempfile::tempdir().expect("a folder for the crate");
        for (path, text) in files {
            let path = folder.path().join("src").join(path);
            fs::create_dir_all(path.parent().expect("it lies in src")).expect("its folder");
            fs::write(path, text).expect("the file");
        }
        assert_eq!(circles_in(folder.path()).join("; "), circle, "{law}");
    }
}

#[test]
fn a_circle_is_shown_when_one_is_made() {
    check(
        r#"
== two import each other: a.rs -> b.rs (B) -> a.rs (A), 2 files in all
a.rs: use crate::b::B; pub struct A;
b.rs: use crate::{a::{A as _}}; pub struct B;
== through a re-export: a.rs -> b.rs (B) -> a.rs (A), 2 files in all
lib.rs: pub use b::*; pub use a::A as Renamed; fn f(_: a::A) {}
a.rs: use crate::B; pub struct A(B);
b.rs: use super::Renamed; pub struct B;
== through what a parent imports for itself: a/c.rs -> b.rs (B) -> a/c.rs (C), 2 files in all
a.rs: mod c; use crate::b::B; pub(crate) use c::C;
a/c.rs: use super::*; pub struct C(B);
b.rs: use crate::a::C; pub struct B;
== parent and child: a.rs -> a/c.rs (help) -> a.rs (A), 2 files in all
a.rs: mod c; pub struct A; fn ask() { c::help() }
a/c.rs: use super::A; pub fn help() {}
== what is used of a glob: a.rs -> a/c.rs (C) -> a.rs (E, R, S, T, U, f), 2 files in all
a.rs: mod c; use c::C; enum E {} trait R {} static S: u8 = 1; type T = u8; union U { u: u8 } fn f() {}
a/c.rs: use super::*; pub struct C<X: R>(X, E, T, U); fn g() { f(S) }
== a re-export that is also used: a.rs -> a/c.rs (C, D, E) -> a.rs (A), 2 files in all
a.rs: mod c; pub use c::{C, D, E}; pub struct A(C); fn f() { vec![D::<u8>::new()]; assert!(E != 1) }
a/c.rs: pub struct C(super::A);
== paths in the code: a.rs -> b.rs (M, N, O, P, g) -> a.rs (A), 2 files in all
a.rs: use crate::{b::{self}}; use b::*; struct A(Vec<crate::b::O>); #[arg(parser = crate::b::P)] struct B;
a.rs: fn f(n: u8) { match n { M => b::g(), crate::b::N => {} } }
b.rs: pub fn g() -> crate::a::A { loop {} } pub const M: u8 = 1;
== the names of an enum: a.rs -> b.rs (B) -> a.rs (A), 2 files in all
a.rs: fn f() { use super::b::B::*; } pub struct A;
b.rs: use crate::a::A; pub enum B { C }
== in what a macro is given alone: a.rs -> b.rs (M, N, O, P) -> a.rs (A), 2 files in all
a.rs: use crate::b as x; fn f() { vec![0..crate::b::N, g(&self::x::M), x::O::<u8>::new(), $crate::b::P] }
b.rs: pub use crate::a::A; fn f() { vec![..A] }
== the shortest way of a knot: b.rs -> c.rs (C) -> b.rs (B), 3 files in all
lib.rs: mod c; mod d;
a.rs: use crate::b::B; pub struct A;
b.rs: use crate::c::C; pub struct B;
c.rs: use crate::a::A; use crate::b::B; use crate::d::D; pub struct C;
d.rs: pub struct D;
== what a macro has made: a.rs -> b.rs (Id) -> a.rs (A), 2 files in all
lib.rs: pub use b::Id;
a.rs: use crate::Id; pub struct A;
b.rs: use crate::a::A; make! { Id }
== macros: a.rs -> a/c.rs (three) -> a.rs (one!, two!), 2 files in all
a.rs: macro_rules! one { () => {} } macro_rules! two { () => {} } mod c; c::three!();
a/c.rs: one!(); fn f() { vec![two!()] } macro_rules! three { () => {} } pub(crate) use three;
== a function that shares its module's name: a.rs -> b.rs (b) -> a.rs (A), 2 files in all
lib.rs: use b::b;
a.rs: use crate::b; pub struct A; fn f() { b() }
b.rs: use crate::a::A; pub fn b() {}
== files that lie elsewhere: bin/x/in/d.rs -> bin/x/o/e/mod.rs (E) -> bin/x/in/d.rs (D), 2 files in all
bin/x/main.rs: #[doc = "D"] #[path = "in/d.rs"] mod d; mod o { pub mod e; }
bin/x/in/d.rs: use crate::o::e::E; pub struct D;
bin/x/o/e/mod.rs: use crate::d::D; pub struct E;
"#,
    );
}

#[test]
fn what_needs_no_other_file_closes_no_circle() {
    check(
        r#"
== a file that only passes on
a.rs: mod c; pub use c::C; pub(crate) use c::*; pub struct A;
a/c.rs: use super::A; pub struct C;
== what is for tests alone
a.rs: pub struct A { #[cfg(test)] b: crate::b::B } #[cfg(test)] use crate::b::B; mod more;
a.rs: #[cfg(all(test, unix))] use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; }
a.rs: #[cfg(test)] impl A { fn f() { crate::b::g() } } impl A { #[cfg(test)] const B: u8 = crate::b::B; }
a.rs: impl A { #[cfg(test)] fn f() { crate::b::g() } } impl R for A { #[cfg(test)] type B = crate::b::B; }
a.rs: trait R { #[cfg(test)] fn f() { crate::b::g() } } enum E { #[cfg(test)] B(crate::b::B) }
a.rs: fn f() { match 1 { #[cfg(test)] _ => crate::b::g() } A { #[cfg(test)] b: crate::b::B } }
a.rs: fn g() { #[cfg(test)] let b = crate::b::B; #[cfg(test)] vec![crate::b::B]; }
a.rs: fn h() { #[cfg(test)] { crate::b::g() } }
a/more.rs: #![cfg(test)] use crate::b::B;
b.rs: use crate::a::{A, more::f};
== a module that is only named, though a function shares its name
lib.rs: pub use b::b;
a.rs: use crate::b; pub struct A;
b.rs: use crate::a::A; pub fn b() {}
== what comes from outside
lib.rs: pub use std::fmt::Debug; use ::b::X; pub fn f() { a::g(); ::b::h() }
a.rs: use crate::{Debug, b::Arc}; pub fn g() {}
b.rs: use crate::{a::g, f}; use std::sync::Arc;
== a name that only the parent has
a.rs: fn drop() { c::g() } mod c;
a/c.rs: pub fn g() { drop() }
== methods, fields, lifetimes and what belongs to a type
a.rs: mod c; pub use c::help; pub struct A; fn f(a: A) { a.help() }
a.rs: fn g() { dbg!(a.help, A { help: 1 }, $help, A::<u8>::help, &'help str) }
a/c.rs: use super::A; impl A { pub fn help(&self) {} } pub fn help() {}
== what is written out goes before what a glob brings
a.rs: mod c; use c::C; pub struct A;
a/c.rs: use super::*; pub struct C(A); struct A;
"#,
    );
}
