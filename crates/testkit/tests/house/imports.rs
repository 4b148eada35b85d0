//! Which file of a crate imports from which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// A path of names from the root of a crate, such as `names::topic::Topic`.
type Names = Vec<String>;

/// The modules of a crate that stand in files of their own. Modules for tests are left out.
#[derive(Debug, Default)]
pub struct Crate {
    files: BTreeMap<Names, File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// The names that it imports or mentions, from the root of the crate.
    used: BTreeSet<Names>,
    /// The names that it passes on, and where they are from. `None` is all names of that module.
    passed_on: Vec<(Option<String>, Names)>,
}

impl Crate {
    /// Reads the files of a crate from its root file.
    pub fn read(root: &Path) -> Self {
        let mut read = Crate::default();
        read.add(Names::new(), root.to_owned(), root.parent().unwrap().to_owned());
        read
    }

    /// Adds the file of a module. `directory` is where the files of its own modules are.
    fn add(&mut self, module: Names, path: PathBuf, directory: PathBuf) {
        let text = fs::read_to_string(&path).unwrap();
        let syntax = syn::parse_file(&text).unwrap();
        let mut reader = Reader { module: module.clone(), ..Reader::default() };
        reader.visit_file(&syntax);
        for (name, attribute) in reader.modules {
            let (path, directory) = match attribute {
                Some(attribute) => (path.parent().unwrap().join(attribute), directory.join(&name)),
                None if directory.join(format!("{name}.rs")).is_file() => {
                    (directory.join(format!("{name}.rs")), directory.join(&name))
                }
                None => (directory.join(&name).join("mod.rs"), directory.join(&name)),
            };
            self.add([module.clone(), vec![name]].concat(), path, directory);
        }
        let file = File { path, used: reader.used, passed_on: reader.passed_on };
        self.files.insert(module, file);
    }

    /// The module of the file in which a name is defined, if it is one of this crate's.
    fn home(&self, names: &[String], depth: usize) -> Option<Names> {
        let length = (0..=names.len()).rev().find(|&n| self.files.contains_key(&names[..n]))?;
        let (module, rest) = names.split_at(length);
        let file = &self.files[module];
        if let (Some(name), true) = (rest.first(), depth < 16) {
            for (passed_on, from) in &file.passed_on {
                let target = match passed_on {
                    Some(passed_on) if passed_on == name => from.clone(),
                    None => [from.clone(), vec![name.clone()]].concat(),
                    Some(_) => continue,
                };
                let home = self.home(&target, depth + 1);
                if passed_on.is_some() || home.as_ref().is_some_and(|home| home != from) {
                    return home;
                }
            }
        }
        Some(module.to_vec())
    }

    /// The imports of each file: the files that define the imported names, not those that re-export them.
    fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut imports = BTreeMap::new();
        for (module, file) in &self.files {
            let homes = file.used.iter().filter_map(|names| self.home(names, 0));
            let others: BTreeSet<_> = homes
                .filter(|home| home != module)
                .map(|home| self.files[&home].path.as_path())
                .collect();
            imports.insert(file.path.as_path(), others);
        }
        imports
    }

    /// The groups of files that import each other, directly or by others of the group.
    pub fn circles(&self) -> BTreeSet<Vec<PathBuf>> {
        let imports = self.imports();
        let reached: BTreeMap<_, _> =
            imports.keys().map(|&file| (file, reachable(&imports, file))).collect();
        let circle = |file: &Path| {
            let together = |&&other: &&&Path| reached[other].contains(file);
            let members: Vec<_> = reached[file].iter().filter(together).collect();
            members.iter().map(|member| member.to_path_buf()).collect::<Vec<_>>()
        };
        imports.keys().map(|file| circle(file)).filter(|circle| !circle.is_empty()).collect()
    }
}

/// The files that a file imports from, directly or by others.
fn reachable<'a>(
    imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
    file: &Path,
) -> BTreeSet<&'a Path> {
    let (mut found, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        for &imported in &imports[file] {
            if found.insert(imported) {
                next.push(imported);
            }
        }
    }
    found
}

/// Collects what one file says of others.
#[derive(Default)]
struct Reader {
    module: Names,
    modules: Vec<(String, Option<String>)>,
    used: BTreeSet<Names>,
    passed_on: Vec<(Option<String>, Names)>,
}

impl Reader {
    /// A path of this file, from the root of the crate; `None` if it leads elsewhere.
    fn path_from_root(&self, names: &[String]) -> Option<Names> {
        let (first, rest) = names.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([&self.module[..], rest].concat()),
            "super" => {
                let ups = names.iter().take_while(|name| *name == "super").count();
                let kept = self.module.len().checked_sub(ups)?;
                Some([&self.module[..kept], &names[ups..]].concat())
            }
            name if self.modules.iter().any(|(module, _)| module == name) => {
                Some([&self.module[..], names].concat())
            }
            _ => None,
        }
    }

    fn add_use(&mut self, tree: &UseTree, before: &mut Names, is_passed_on: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_use(&path.tree, before, is_passed_on);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, before, is_passed_on);
                }
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                self.add_name(before, Some(&name), Some(name.clone()), is_passed_on);
            }
            UseTree::Rename(rename) => {
                let (name, new) = (rename.ident.to_string(), rename.rename.to_string());
                self.add_name(before, Some(&name), Some(new), is_passed_on);
            }
            UseTree::Glob(_) => self.add_name(before, None, None, is_passed_on),
        }
    }

    fn add_name(
        &mut self,
        before: &Names,
        name: Option<&String>,
        new: Option<String>,
        is_passed_on: bool,
    ) {
        let mut names = before.clone();
        names.extend(name.filter(|name| *name != "self").cloned());
        let Some(names) = self.path_from_root(&names) else {
            return;
        };
        if is_passed_on {
            self.passed_on.push((new, names));
        } else {
            self.used.insert(names);
        }
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_file(&mut self, file: &'a syn::File) {
        // First, since names of modules are paths wherever they stand.
        for item in &file.items {
            if let Item::Mod(ItemMod { attrs, ident, content: None, .. }) = item
                && !is_for_tests(attrs)
            {
                self.modules.push((ident.to_string(), path_attribute(attrs)));
            }
        }
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'a Item) {
        let attributes: &[Attribute] = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        let is_passed_on = !matches!(item.vis, Visibility::Inherited);
        self.add_use(&item.tree, &mut Names::new(), is_passed_on);
    }

    // The path in `pub(in path)` imports nothing.
    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1
            && let Some(names) = self.path_from_root(&names)
        {
            self.used.insert(names);
        }
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => {
            list.path.is_ident("cfg")
                && list.tokens.to_string().split(' ').any(|word| word == "test")
        }
        _ => attribute.path().is_ident("test"),
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let name = |path: PathBuf| {
            let path = path.strip_prefix(directory.path()).unwrap();
            path.to_str().unwrap().to_owned()
        };
        Crate::read(&directory.path().join("lib.rs"))
            .circles()
            .into_iter()
            .map(|circle| circle.into_iter().map(name).collect())
            .collect()
    }

    #[test]
    fn a_circle_is_found_through_names_that_are_passed_on() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub enum B { None, Some(Box<crate::A>) }"),
        ];
        assert_eq!(circles(&files), [["a.rs", "b.rs"]]);
    }

    #[test]
    fn a_module_and_the_file_above_it_make_a_circle() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod inner; pub struct A(inner::Inner);"),
            ("a/inner.rs", "use super::A; pub struct Inner(Box<A>);"),
        ];
        assert_eq!(circles(&files), [["a/inner.rs", "a.rs"]]);
    }

    #[test]
    fn re_exports_and_tests_are_in_no_circle() {
        let files = [
            ("lib.rs", "pub mod a; mod b; pub use b::*; #[cfg(test)] mod tests;"),
            ("a.rs", "use crate::B; pub struct A(B);"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
        ];
        assert_eq!(circles(&files), Vec::<Vec<String>>::new());
    }
}
