//! Reads JSON as Go's decoder does, between the text and serde (plugin-protocol §8).
//!
//! The keys of a struct match in any case, and the last of several holds. Null is the zero value of whatever
//! is expected. Half of a surrogate pair is U+FFFD. More tolerant than Go: a number is accepted as a text, and
//! in a map of texts, such as tags, anything is, as its JSON. The keys of maps are exact, and raw values stay
//! byte for byte.

use model::Opaque;
use serde::de::value::{BorrowedStrDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Error;
use serde_json::value::RawValue;

/// Any JSON value, kept byte for byte; null and absent are the same.
pub(crate) type Any = Option<Box<RawValue>>;

pub(crate) fn any(opaque: &Opaque) -> Any {
    if opaque.is_null() {
        return None;
    }
    // `Opaque` was one JSON value when it was made; if it is not, null is the honest reading.
    RawValue::from_string(opaque.as_json().to_owned()).ok()
}

pub(crate) fn opaque(any: Any) -> Opaque {
    any.map_or_else(Opaque::null, |raw| Opaque::from_json(raw.get()))
}

/// Reads one JSON value as Go's decoder does, but an unknown field is an error if the type says so. Raw values
/// keep their digits.
pub fn read_strict<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    let raw: &RawValue = serde_json::from_str(text)?;
    T::deserialize(Json { text: raw.get(), in_map: false, is_strict: true })
}

/// Reads one JSON value.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    read_raw(serde_json::from_str(text)?)
}

/// Reads what is known to be one JSON value: a listing may have many megabytes, and is not checked again.
pub(crate) fn read_raw<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Error> {
    T::deserialize(Json { text: raw.get(), in_map: false, is_strict: false })
}

/// A field that does not spoil the others: its value, or why it cannot be read.
pub(crate) struct Tried<T>(pub(crate) Result<T, String>);

impl<T: Default> Default for Tried<T> {
    fn default() -> Self {
        Self(Ok(T::default()))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tried<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(read_raw(raw).map_err(|error| error.to_string())))
    }
}

/// The text of one JSON value, without blanks around it.
#[derive(Clone, Copy)]
struct Json<'de> {
    text: &'de str,
    /// Whether it is the value of a key that is not a field.
    in_map: bool,
    /// Whether a type is told of what it does not know.
    is_strict: bool,
}

impl<'de> Json<'de> {
    fn is_null(self) -> bool {
        self.text == "null"
    }

    fn strict(self) -> serde_json::Deserializer<serde_json::de::StrRead<'de>> {
        serde_json::Deserializer::from_str(self.text)
    }

    fn entries(self) -> Result<Vec<(String, &'de str)>, Error> {
        if self.is_null() {
            return Ok(Vec::new());
        }
        let entries = self.strict().deserialize_map(Entries)?;
        entries.into_iter().map(|(key, value)| Ok((text_of(key.get())?, value.get()))).collect()
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Whether Go takes a key for this field: letters are folded, also the Kelvin sign and the long s.
fn names(key: &str, field: &str) -> bool {
    let fold = |c: char| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(field.chars().map(fold))
}

/// The text of a JSON string.
fn text_of(raw: &str) -> Result<String, Error> {
    serde_json::from_str(raw).or_else(|_| serde_json::from_str(&without_lone_surrogates(raw)))
}

fn without_lone_surrogates(raw: &str) -> String {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = raw[at..].find('\\') {
        at += found;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&raw[copied..at]);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            (Some(_), _) => 6,
            // One of the short escapes.
            (None, _) => 2,
        };
    }
    out.push_str(&raw[copied..]);
    out
}

macro_rules! zero_for_null {
    ($($method:ident: $visit:ident($zero:expr)),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.is_null() { visitor.$visit($zero) } else { self.strict().$method(visitor) }
        }
    )*};
}

impl<'de> Deserializer<'de> for Json<'de> {
    type Error = Error;

    zero_for_null!(
        deserialize_bool: visit_bool(false),
        deserialize_i64: visit_i64(0),
        deserialize_u32: visit_u32(0)
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.strict().deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text.as_bytes().first() {
            Some(b'"') => visitor.visit_string(text_of(self.text)?),
            Some(b'-' | b'0'..=b'9') => visitor.visit_str(self.text),
            _ if self.is_null() => visitor.visit_str(""),
            _ if self.in_map => visitor.visit_str(self.text),
            _ => self.strict().deserialize_string(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items: Vec<&RawValue> =
            if self.is_null() { Vec::new() } else { Deserialize::deserialize(&mut self.strict())? };
        let items =
            items.into_iter().map(|item| Json { text: item.get(), in_map: false, is_strict: self.is_strict });
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = self.entries()?.into_iter();
        let is_strict = self.is_strict;
        let entries = entries.map(|(key, text)| (key, Json { text, in_map: true, is_strict }));
        visitor.visit_map(MapDeserializer::new(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut found: Vec<Option<&'de str>> = vec![None; fields.len()];
        for (key, text) in self.entries()? {
            let exact = fields.iter().position(|field| *field == key);
            if let Some(at) = exact.or_else(|| fields.iter().position(|field| names(&key, field))) {
                found[at] = Some(text);
            } else if self.is_strict {
                return Err(serde::de::Error::unknown_field(&key, fields));
            }
        }
        let found = fields.iter().zip(found);
        let found = found.filter_map(|(field, text)| {
            let text = text?;
            Some((*field, Json { text, in_map: false, is_strict: self.is_strict }))
        });
        visitor.visit_map(MapDeserializer::new(found))
    }

    /// Only a raw value is one: a map with the name of the type as its key and the text as its value.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: BorrowedStrDeserializer<'de, Error> = BorrowedStrDeserializer::new(self.text);
        visitor.visit_map(MapDeserializer::new(std::iter::once((name, text))))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Json<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Deserialize, Default, Debug, PartialEq)]
    #[serde(default, rename_all = "PascalCase")]
    struct Thing {
        name: String,
        kids: Vec<Thing>,
        ok: bool,
        count: i64,
        tags: Option<BTreeMap<String, String>>,
    }

    fn thing(text: &str) -> Thing {
        read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn named(name: &str) -> Thing {
        Thing { name: name.into(), ..Thing::default() }
    }

    #[test]
    fn a_key_is_a_field_in_any_case_and_the_last_one_holds() {
        for text in [
            r#"{"Name":"a"}"#,
            r#"{"name":"a"}"#,
            r#"{"NAME":"a","other":[{}]}"#,
            r#"{"n\u0061me":"a"}"#,
            r#"{"Name":"b","Name":"a"}"#,
            r#"{"Name":"b","nAME":"a"}"#,
            r#"{"name":"b","Name":"a"}"#,
            r#" { "Name" : "a" } "#,
        ] {
            assert_eq!(thing(text), named("a"), "{text}");
        }
        assert_eq!(thing(r#"{"ſname":"a","Kids":[{"name":"x"}]}"#).kids, [named("x")]);
        assert_eq!(thing("{\"\u{212a}ids\":[{}]}").kids, [named("")]);
    }

    #[test]
    fn null_is_the_zero_value_of_what_is_expected() {
        let text = r#"{"Name":null,"Kids":null,"Ok":null,"Count":null,"Tags":null}"#;
        assert_eq!(thing(text), Thing::default());
        assert_eq!(thing("null"), Thing::default());
        assert_eq!(thing(r#"{"Kids":[null]}"#).kids, [Thing::default()]);
    }

    #[test]
    fn tags_keep_their_case_and_are_texts_whatever_they_were() {
        let tags = thing(r#"{"tags":{"a":null,"A":1.50,"b":true,"c":[1, {"d":2}],"e":"x","e":"y"}}"#).tags;
        let wanted = [("a", ""), ("A", "1.50"), ("b", "true"), ("c", r#"[1, {"d":2}]"#), ("e", "y")];
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(tags, Some(BTreeMap::from(wanted)));
        assert_eq!(thing(r#"{"Name":12}"#), named("12"));
        for wrong in [r#"{"Name":true}"#, r#"{"Name":{}}"#, r#"{"Ok":"yes"}"#, "[]", "5", "{} x", "{"] {
            assert!(read::<Thing>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_replaced_and_a_whole_one_is_not() {
        for (raw, name) in [
            (r"\ud800", "\u{fffd}"),
            (r"a\udc00b", "a\u{fffd}b"),
            (r"\ud83d\ude00", "\u{1f600}"),
            (r"\ud800\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\ud800\n\\ud800", "\u{fffd}\n\\ud800"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"ü\ud800", "ü\u{fffd}"),
            (r"\ud800ü€", "\u{fffd}ü€"),
        ] {
            assert_eq!(thing(&format!(r#"{{"Name":"{raw}"}}"#)), named(name), "{raw}");
            let key: BTreeMap<String, String> = read(&format!(r#"{{"{raw}":"x"}}"#)).expect(raw);
            assert_eq!(key, BTreeMap::from([(name.to_owned(), "x".to_owned())]));
        }
    }

    #[test]
    fn raw_values_stay_as_they_are() {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Holder<'a> {
            #[serde(borrow)]
            properties: &'a RawValue,
        }
        let inner = r#"{"b": 1.0e2,"B":null , "a":"\ud800","a":12345678901234567890123}"#;
        let text = format!(r#"{{"PROPERTIES": {inner} }}"#);
        let holder: Holder<'_> = read(&text).expect("a holder");
        assert_eq!(holder.properties.get(), inner);
    }
}
