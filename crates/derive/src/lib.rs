//! Derives `gsb_client::Message`; use it through `gsb-client`, whose feature `derive` brings it along.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Code;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{DeriveInput, Error, LitStr, Type, parse_macro_input};

/// Derives `gsb_client::Message` from `#[message(id = "…", item = Type, error = Type)]`. Without `item` it is
/// `()`, without `error` it is `String`.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message(&input).unwrap_or_else(Error::into_compile_error).into()
}

#[derive(Default)]
struct Options {
    id: Option<LitStr>,
    item: Option<Type>,
    error: Option<Type>,
}

impl Options {
    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        if meta.path.is_ident("id") {
            set(&mut self.id, meta)
        } else if meta.path.is_ident("item") {
            set(&mut self.item, meta)
        } else if meta.path.is_ident("error") {
            set(&mut self.error, meta)
        } else {
            Err(meta.error("unknown option; there are `id`, `item` and `error`"))
        }
    }
}

fn set<T: syn::parse::Parse>(
    option: &mut Option<T>,
    meta: &ParseNestedMeta<'_>,
) -> Result<(), Error> {
    match option.replace(meta.value()?.parse()?) {
        None => Ok(()),
        Some(_) => Err(meta.error("given twice")),
    }
}

fn message(input: &DeriveInput) -> Result<Code, Error> {
    let mut options = Options::default();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("message")) {
        attribute.parse_nested_meta(|meta| options.read(&meta))?;
    }
    let id = options.id.ok_or_else(|| {
        Error::new(input.ident.span(), "the message needs an id: #[message(id = \"…\")]")
    })?;
    if id.value().is_empty() {
        return Err(Error::new(
            id.span(),
            "the id is a segment of an address; it must not be empty",
        ));
    }
    let item = options.item.map_or_else(|| quote!(()), |item| quote!(#item));
    let error = options.error.map_or_else(|| quote!(::std::string::String), |error| quote!(#error));
    let name = &input.ident;
    let (implementation, generics, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #implementation ::gsb_client::Message for #name #generics #bounds {
            const ID: &'static str = #id;
            type Item = #item;
            type Error = #error;
        }
    })
}
