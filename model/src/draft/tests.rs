use super::*;
use crate::spec::{Allocation, Amount, Canary, Healing, HealthGate, OnFailure, Updating};
use crate::time::Millis;

const WEB: &str = "\
kind: group
metadata:
  name: web
properties:
  Allocation:
    Size: 3
  Instance:
    Plugin: simulator/compute
    Properties:
      image: v1
  Flavor:
    Plugin: vanilla
    Properties:
      Init: [echo hi]
";

fn specs(text: &str) -> Vec<GroupSpec> {
    match read("f", text.as_bytes(), Yaml::Unsaid) {
        Ok(draft) => draft.specs,
        Err(problems) => panic!("{problems}"),
    }
}

fn problems(text: &str) -> String {
    read("web.yaml", text.as_bytes(), Yaml::Unsaid).expect_err("this should be refused").to_string()
}

fn body(allocation: &str) -> String {
    format!(
        r#"{{"Allocation":{allocation},"Instance":{{"Plugin":"file","Properties":{{"a":1}}}},"Flavor":{{"Plugin":"vanilla","Properties":{{}}}}}}"#
    )
}

#[test]
fn all_forms_of_one_group_say_the_same() {
    let yaml = specs(WEB);
    let v1 = r#"{"kind":"group","metadata":{"name":"group/web","tags":null},"properties":@}"#;
    let legacy = r#"{"ID":"web","Properties":@}"#;
    let listed = r#"[{"Plugin":"group","Properties":{"ID":"web","Properties":@}}]"#;
    let properties = r#"{"Allocation":{"Size":3,"LogicalIDs":null},"Instance":{"Plugin":"simulator/compute","Properties":{"image":"v1"}},"Flavor":{"Plugin":"vanilla","Properties":{"Init":["echo hi"]}},"Updating":{"Duration":"0s","Count":0,"SkipBeforeInstanceDestroy":null}}"#;
    for form in [v1, legacy, listed] {
        assert_eq!(specs(&form.replace('@', properties)), yaml, "{form}");
    }
}

#[test]
fn several_documents_stand_in_one_file() {
    let two = format!("{WEB}---\n{}\n---\n", WEB.replace("name: web", "name: api"));
    let ids: Vec<_> = specs(&two).into_iter().map(|spec| spec.id.to_string()).collect();
    assert_eq!(ids, ["web", "api"]);
    assert!(problems(&format!("{WEB}---\n{WEB}")).contains("the group `web` is declared twice"));
    let draft = read("f", two.as_bytes(), Yaml::Unsaid).expect("it is valid");
    let told: Vec<_> =
        draft.parts.iter().flatten().map(|spot| (spot.place.line, spot.path.as_str())).collect();
    assert_eq!(told.len(), 4, "an instance and a flavor each");
    assert!(
        told.iter().zip(["Instance", "Flavor"].iter().cycle()).all(|((_, path), end)| path.ends_with(end)),
        "{told:?}"
    );
    assert!(told.is_sorted(), "{told:?}");
}

#[test]
fn opaque_properties_keep_every_digit_and_escape() {
    let json = r#"{"ID":"g","Properties":{"Allocation":{"Size":1},"Flavor":{"Plugin":"vanilla"},
        "Instance":{"Plugin":"file","Properties":{ "big" : 12345678901234567890, "f":1.0e2 , "s":"a \u003c \ud83d\ude00 \/ b" }}}}"#;
    let spec = &specs(json)[0];
    assert_eq!(
        spec.template.instance.properties.as_json(),
        r#"{"big":12345678901234567890,"f":1.0e2,"s":"a \u003c \ud83d\ude00 \/ b"}"#
    );
    assert!(spec.template.flavor.properties.is_null(), "absent properties are null");
}

/// The properties of an instance that are written so, as JSON, with the warnings.
fn opaque(properties: &str, yaml: Yaml) -> Result<(String, String), String> {
    let text = WEB.replace("      image: v1\n", properties);
    let draft = read("f", text.as_bytes(), yaml).map_err(|problems| problems.to_string())?;
    let json = draft.specs[0].template.instance.properties.as_json().to_owned();
    Ok((json, draft.warnings.to_string()))
}

const SCALARS: &str = "      y: on\n      n: no\n      hex: 0x1F\n      oct: 012\n      big: 12345678901234567890\n      half: .5\n      e: 1e3\n      f: 2.0\n      text: \"1\"\n      ver: 1.2.3\n      nil: ~\n      date: 2026-11-20\n      time: 12:30:00\n      k: 1_000\n      eight: 08\n      neg: -0x10\n      bin: 0b11\n";

#[test]
fn yaml_is_read_by_the_rules_that_are_said() {
    let newer = opaque(SCALARS, Yaml::V1_2).expect("valid");
    let common = r#""big":12345678901234567890,"half":0.5,"e":1e3,"f":2.0,"text":"1","ver":"1.2.3","nil":null,"date":"2026-11-20","time":"12:30:00""#;
    assert_eq!(
        newer.0,
        format!(
            r#"{{"y":"on","n":"no","hex":31,"oct":12,{common},"k":"1_000","eight":8,"neg":"-0x10","bin":"0b11"}}"#
        )
    );
    assert_eq!(newer.1, "", "nothing is left to tell");
    // Go writes a float without a fraction as an integer.
    let whole = common.replace("1e3", "1000").replace("2.0", "2");
    let older = format!(
        r#"{{"true":true,"false":false,"hex":31,"oct":10,{whole},"k":1000,"eight":8,"neg":-16,"bin":3}}"#
    );
    assert_eq!(opaque(SCALARS, Yaml::V1_1), Ok((older.clone(), String::new())));
    // Where nobody says which, InfraKit's meaning holds, and both are told.
    let (unsaid, warnings) = opaque(SCALARS, Yaml::Unsaid).expect("valid");
    assert_eq!(unsaid, older);
    assert_eq!(warnings.lines().count(), 8, "{warnings}");
    for said in [
        "f:10:7: properties.Instance.Properties.true: the key `y` is `true` in YAML 1.1 and `y` in YAML 1.2: read as `true`; quote it, or say `--yaml 1.1` or `1.2`",
        "f:10:10: properties.Instance.Properties.true: `on` is true in YAML 1.1 and the text \"on\" in YAML 1.2: read as true; write it as it is meant, or say `--yaml 1.1` or `1.2`",
        "f:13:12: properties.Instance.Properties.oct: `012` is 10 in YAML 1.1 and 12 in YAML 1.2: read as 10;",
    ] {
        assert!(warnings.contains(said), "{said}\n{warnings}");
    }
}

#[test]
fn a_directive_says_the_version_of_its_document() {
    let with = |directive: &str, yaml| {
        let text = format!("{directive}\n---\n{}", WEB.replace("image: v1", "image: yes"));
        read("f", text.as_bytes(), yaml).map(|draft| {
            (draft.specs[0].template.instance.properties.as_json().to_owned(), draft.warnings.list.len())
        })
    };
    let image = |value: &str| format!("{{\"image\":{value}}}");
    assert_eq!(with("%YAML 1.1", Yaml::Unsaid), Ok((image("true"), 0)));
    assert_eq!(with("# a comment\n%YAML 1.2 # another", Yaml::Unsaid), Ok((image("\"yes\""), 0)));
    assert_eq!(with("# none", Yaml::Unsaid), Ok((image("true"), 1)));
    let both = with("%YAML 1.1", Yaml::V1_2).expect_err("they contradict each other").to_string();
    assert_eq!(both, "f:1:1: the document names another version of YAML than `--yaml`; remove one of them");
    // The second document is read by its own directive, and the first by none.
    let api = WEB.replace("name: web", "name: api").replace("image: v1", "image: yes");
    let two = format!("{}...\n%YAML 1.2\n---\n{api}", WEB.replace("image: v1", "image: yes"));
    let read = specs(&two);
    let images: Vec<_> = read.iter().map(|spec| spec.template.instance.properties.as_json()).collect();
    assert_eq!(images, [image("true"), image("\"yes\"")]);
}

#[test]
fn a_field_of_ours_that_readers_take_differently_is_refused() {
    for (from, to, said) in [
        (
            "Size: 3",
            "Size: 014",
            "web.yaml:6:11: properties.Allocation.Size: `014` is 12 in YAML 1.1 and 14 in YAML 1.2; write it as it is meant, or say `--yaml 1.1` or `--yaml 1.2`",
        ),
        ("Size: 3", "Size: 1_0", "properties.Allocation.Size: `1_0` is 10 in YAML 1.1 and the text"),
        ("name: web", "name: no", "metadata.name: `no` is false in YAML 1.1 and the text \"no\" in YAML 1.2"),
        ("Size: 3", "LogicalIDs: [a, y]", "properties.Allocation.LogicalIDs[1]: `y` is true in YAML 1.1"),
        ("Size: 3", "Size: !Ref three", "properties.Allocation.Size: the tag `!Ref` is not supported"),
        (
            "Size: 3",
            "LogicalIDs: !Ref [a]",
            "properties.Allocation.LogicalIDs: the tag `!Ref` is not supported",
        ),
        (
            "  Allocation:",
            "  Allocation: !GetAtt",
            "properties.Allocation: the tag `!GetAtt` is not supported",
        ),
        ("kind: group", "!Group\nkind: group", "the tag `!Group` is not supported"),
        ("    Size: 3", "    !Ref Size: 3", "the tag `!Ref` is not supported; quote the key"),
        ("  Healing: {}", "  Healing: {Start: yes}", "`yes` is true in YAML 1.1 and the text"),
    ] {
        let told = problems(&format!("{WEB}  Healing: {{}}\n").replace(from, to));
        assert!(told.contains(said), "{to} gave {told}");
    }
    let said = |yaml| {
        read("f", WEB.replace("Size: 3", "Size: 014").as_bytes(), yaml).expect("said").specs[0]
            .allocation
            .clone()
    };
    assert_eq!((said(Yaml::V1_1), said(Yaml::V1_2)), (Allocation::Size(12), Allocation::Size(14)));
}

#[test]
fn tags_are_obeyed_or_told() {
    let of = |value: &str, yaml| opaque(&format!("      a: {value}\n"), yaml);
    let all = [Yaml::Unsaid, Yaml::V1_1, Yaml::V1_2];
    for (value, json) in [
        ("!!str 3", r#""3""#),
        ("! yes", r#""yes""#),
        ("!!int \"3\"", "3"),
        ("!!float 3", "3"),
        ("!!bool \"true\"", "true"),
        ("!!null \"\"", "null"),
        ("!!map {x: 1}", r#"{"x":1}"#),
        ("!!seq [1]", "[1]"),
    ] {
        for yaml in all {
            assert_eq!(of(value, yaml), Ok((format!("{{\"a\":{json}}}"), String::new())), "{value} {yaml:?}");
        }
    }
    for (value, json) in [
        ("!!binary aGVsbG8=", r#""hello""#),
        ("!Ref web", r#""web""#),
        ("!Ref [web]", r#"["web"]"#),
        ("!GetAtt {b: c}", r#"{"b":"c"}"#),
        ("!!set {x}", r#"{"x":null}"#),
        ("!!int 0b11", "3"),
    ] {
        let json = format!("{{\"a\":{json}}}");
        assert_eq!(of(value, Yaml::V1_1), Ok((json.clone(), String::new())), "{value}");
        let (unsaid, warning) = of(value, Yaml::Unsaid).expect(value);
        assert_eq!((unsaid, warning.lines().count()), (json, 1), "{value}: {warning}");
        assert!(of(value, Yaml::V1_2).is_err(), "{value}");
    }
    for (value, said) in [
        ("!!int three", "`three` is no int, as its tag says"),
        ("!!binary /w==", "is not base64 of UTF-8 text"),
        ("!!bool 3", "`3` is no bool"),
        (".nan", "cannot be written as JSON"),
    ] {
        for yaml in all {
            let told = of(value, yaml).expect_err(value);
            assert!(told.contains(said), "{told}");
        }
    }
}

#[test]
fn numbers_that_only_one_reader_has_are_told() {
    for (value, older, newer, told) in [
        ("0xFFFFFFFFFFFFFFFFFF", r#""0xFFFFFFFFFFFFFFFFFF""#, "4722366482869645213695", 1),
        ("1e400", r#""1e400""#, "1e400", 1),
        ("-0", "0", "-0", 0),
        ("1.50", "1.50", "1.50", 0),
        ("1e9", "1000000000", "1e9", 0),
        ("-1.0", "-1", "-1.0", 0),
        ("!!float 3.0", "3", "3.0", 0),
        ("1e21", "1e21", "1e21", 0),
    ] {
        let of = |yaml| opaque(&format!("      a: {value}\n"), yaml).expect(value);
        let json = |value: &str| format!("{{\"a\":{value}}}");
        assert_eq!(of(Yaml::V1_1).0, json(older), "{value}");
        assert_eq!(of(Yaml::V1_2).0, json(newer), "{value}");
        let (unsaid, warnings) = of(Yaml::Unsaid);
        assert_eq!((unsaid, warnings.lines().count()), (json(older), told), "{value}: {warnings}");
    }
    assert_eq!(specs(&WEB.replace("Size: 3", "Size: 3.0"))[0].allocation, Allocation::Size(3));
    let both = opaque("      y: 1\n      on: 2\n", Yaml::Unsaid).expect("accepted").1;
    assert!(both.contains("the key `true` stands here twice"), "{both}");
}

#[test]
fn what_aliases_copy_is_counted_before_it_is_copied() {
    let long = "x".repeat(900_000);
    let texts = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 100_000].join(","));
    let opened: String = (0..100).map(|n| format!("&a{n} [")).collect();
    let anchors = format!("{opened}{}{}", "0,".repeat(100_000), "]".repeat(100));
    for bomb in [texts, anchors] {
        assert!(problems(&bomb).contains("more than 500000 values"));
    }
    let mut deep = String::from("a0: &a0 [x]\n");
    for n in 1..20 {
        deep.push_str(&format!("a{n}: &a{n} {}*a{}{}\n", "[".repeat(50), n - 1, "]".repeat(50)));
    }
    assert!(problems(&deep).contains("more than 128 levels of nesting"));
}

#[test]
fn merges_are_followed_and_told() {
    let merged = |text: &str| opaque(text, Yaml::Unsaid);
    let base = "      base: &b {x: 1, z: {w: 2}}\n      other: &o {x: 7, v: 8}\n";
    let parts = r#""base":{"x":1,"z":{"w":2}},"other":{"x":7,"v":8}"#;
    for (of, json) in [
        ("{<<: *b, q: 3}", r#"{"x":1,"z":{"w":2},"q":3}"#),
        ("{<<: *b, x: 9}", r#"{"x":9,"z":{"w":2}}"#),
        ("{q: 3, <<: *b}", r#"{"q":3,"x":1,"z":{"w":2}}"#),
        ("{<<: [*b, *o]}", r#"{"x":1,"z":{"w":2},"v":8}"#),
        ("{<<: {<<: *o, x: 2}}", r#"{"x":2,"v":8}"#),
        ("{<<: *b, <<: *o}", r#"{"x":7,"z":{"w":2},"v":8}"#),
    ] {
        let (got, warnings) = merged(&format!("{base}      a: {of}\n")).expect(of);
        assert_eq!(got, format!("{{{parts},\"a\":{json}}}"), "{of}");
        assert_eq!(warnings.lines().count(), 1, "{warnings}");
        assert!(warnings.contains("`<<` merges maps in YAML 1.1"), "{warnings}");
    }
    for (of, said) in [
        ("{x: 9, <<: *b}", "`x` stands before a `<<` that has it too: readers differ; put `<<` first"),
        ("{<<: 3}", "`<<` takes a map or a list of maps, found a number"),
        ("{<<: [*b, 3]}", "`<<` takes a map or a list of maps, found a list"),
    ] {
        let told = merged(&format!("{base}      a: {of}\n")).expect_err(of);
        assert!(told.contains(said), "{told}");
    }
    let quoted = merged("      a: {\"<<\": 1}\n");
    assert_eq!(quoted, Ok((r#"{"a":{"<<":1}}"#.to_owned(), String::new())));
    assert_eq!(opaque("      a: {<<: 1}\n", Yaml::V1_2), quoted);
    // In fields of ours a merge has one meaning only.
    let flavor = WEB
        .replace("    Properties:\n      Init", "    <<: &f {Properties: {Tags: {a: b}}}\n    # Init")
        .replace("    # Init: [echo hi]\n", "");
    assert_eq!(specs(&flavor)[0].template.flavor.properties.as_json(), r#"{"Tags":{"a":"b"}}"#);
    let told = read("f", flavor.as_bytes(), Yaml::Unsaid).expect("accepted").warnings.to_string();
    assert!(told.contains("properties.Flavor: `<<` merges maps in YAML 1.1"), "{told}");
    // Merges count as what they copy.
    let mut bomb = String::from("a0: &a0 {x: [x, x, x, x, x, x, x, x, x, x]}\n");
    for i in 1..20 {
        let names: String = (0..8).map(|n| format!("k{n}: {{<<: *a{}}}, ", i - 1)).collect();
        bomb.push_str(&format!("a{i}: &a{i} {{{names}}}\n"));
    }
    assert!(problems(&bomb).contains("more than 500000 values"));
}

#[test]
fn keys_that_stand_twice_in_properties_are_told() {
    for (text, said) in [
        ("{x: 1, x: 2}", "the key `x` stands here twice, first at 10:"),
        ("{Name: 1, name: 2}", "the key `name` stands here twice, but for its case, first at 10:"),
        ("{true: 1, \"true\": 2}", "the key `true` stands here twice"),
        ("[{x: {q: 1, q: 1}}]", "properties.Instance.Properties.a[0].x.q: the key `q` stands here twice"),
    ] {
        let (_, warnings) = opaque(&format!("      a: {text}\n"), Yaml::Unsaid).expect(text);
        assert!(warnings.contains(said) && warnings.lines().count() == 1, "{warnings}");
    }
    let json = r#"{"ID":"g","Properties":{"Allocation":{"Size":1},"Flavor":{"Plugin":"vanilla"},"Instance":{"Plugin":"file","Properties":{"x":1,"X":2}}}}"#;
    let told = read("f", json.as_bytes(), Yaml::Unsaid).expect("accepted").warnings.to_string();
    assert!(told.contains("the key `X` stands here twice, but for its case"), "{told}");
}

#[test]
fn a_text_that_is_json_but_for_a_number_gets_the_error_of_json() {
    for value in ["010", "0x2", "+2", "NaN", ".5", "yes", "True", "1_0"] {
        for text in [format!("{{\"a\": {value}}}"), format!("[1, {value}]")] {
            let told = to_json("f", text.as_bytes(), Yaml::Unsaid).expect_err(&text).to_string();
            assert!(told.contains("not valid JSON"), "{text}: {told}");
        }
    }
    for (text, json) in [
        ("{a: 0x2}", r#"{"a":2}"#),
        ("{\"a\": 1,}", r#"{"a":1}"#),
        ("{\"a\": 1 # one\n}", r#"{"a":1}"#),
        ("{\"a\": 'x'}", r#"{"a":"x"}"#),
    ] {
        assert_eq!(to_json("f", text.as_bytes(), Yaml::Unsaid).expect(text).json, json);
    }
}

#[test]
fn an_alias_without_its_anchor_is_told_in_its_own_words() {
    let two = "a: &x 1\n---\nb: *x\n";
    assert_eq!(
        problems(two),
        "web.yaml:3:4: the alias `*x` names an anchor of another document, or one that comes later; an anchor holds from where it stands to the end of its document"
    );
    assert_eq!(
        problems("b: [*nobody, 1]\n"),
        "web.yaml:1:5: the alias `*nobody` has no anchor `&nobody`; write the value out"
    );
}

#[test]
fn anchors_are_followed_and_bombs_are_refused() {
    let text = WEB.replace("      image: v1\n", "      a: &a [1, 2]\n      b: *a\n");
    assert_eq!(specs(&text)[0].template.instance.properties.as_json(), r#"{"a":[1,2],"b":[1,2]}"#);
    let mut bomb = String::from("a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..10 {
        bomb.push_str(&format!("k{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
    }
    assert!(problems(&bomb).contains("more than 500000 values"));
}

#[test]
fn every_problem_is_told_with_its_place_and_remedy() {
    let text = "\
kind: group
metadata:
  name: web
properties:
  Allocaton:
    Size: 3
  Instance:
    Plugin: simulator/compute
    Propertys: {}
  Flavor:
    Plugin: 7
  Updating:
    Duration: 10
";
    assert_eq!(
        problems(text),
        "\
web.yaml:5:3: properties.Allocaton: unknown field `Allocaton`; did you mean `Allocation`?
web.yaml:5:3: properties: `Allocation` is missing; add `Allocation`
web.yaml:9:5: properties.Instance.Propertys: unknown field `Propertys`; did you mean `Properties`?
web.yaml:11:13: properties.Flavor.Plugin: expected a string, found a number
web.yaml:13:15: properties.Updating.Duration: expected a duration such as `10s`, found a number"
    );
}

#[test]
fn an_allocation_is_a_size_or_names_and_never_both_or_neither() {
    let of = |allocation: &str| {
        read("f", format!(r#"{{"ID":"g","Properties":{}}}"#, body(allocation)).as_bytes(), Yaml::Unsaid)
    };
    let said = |allocation: &str| of(allocation).expect_err(allocation).to_string();
    let got = |allocation: &str| of(allocation).expect(allocation).specs.remove(0).allocation;
    assert_eq!(got(r#"{"Size":0}"#), Allocation::Size(0));
    assert_eq!(got(r#"{"Size":0,"LogicalIDs":["a"]}"#), Allocation::LogicalIds(vec!["a".into()]));
    assert_eq!(got(r#"{"Size":2,"LogicalIDs":null}"#), Allocation::Size(2));
    assert!(said(r#"{"Size":2,"LogicalIDs":["a"]}"#).contains("both Size and LogicalIDs"));
    assert!(said("{}").contains("neither Size nor LogicalIDs"));
    assert!(said(r#"{"LogicalIDs":[]}"#).contains("neither Size nor LogicalIDs"));
    assert!(said(r#"{"LogicalIDs":["a","b","a"]}"#).contains("`a` is repeated"));
    assert!(said(r#"{"LogicalIDs":["a",""]}"#).contains("is empty"));
    assert!(said(r#"{"Size":-1}"#).contains("`-1` is not a whole number"));
    assert!(said(r#"{"Size":1.5}"#).contains("`1.5` is not a whole number"));
    assert!(said(r#"{"Size":"3"}"#).contains("expected a whole number, found a string"));
    assert!(said(r#"{"Size":4000000}"#).contains("at most 100000"));
}

#[test]
fn healing_is_read_and_what_cannot_be_meant_is_refused() {
    let healing = |text: &str| specs(&format!("{WEB}  Healing: {text}\n"))[0].healing;
    assert_eq!(healing("{}"), Healing::default());
    let all = healing("{AbsentFor: 1m30s, Start: true, BootDeadline: 10m}");
    let seconds = |n| Some(Millis::seconds(n));
    assert_eq!(all, Healing { absent_for: seconds(90), start: true, boot_deadline: seconds(600) });
    for (text, said) in [
        ("{AbsentFor: 25h}", "properties.Healing.AbsentFor: 25h0m0s is not between 0s and 24h0m0s"),
        ("{BootDeadline: 0s}", "properties.Healing.BootDeadline: 0s is not between 1s and 24h0m0s"),
        ("{Start: sometimes}", "properties.Healing.Start: expected `true` or `false`, found a string"),
        ("{Absentfor: 1s, Strat: true}", "did you mean `Start`?"),
    ] {
        let told = problems(&format!("{WEB}  Healing: {text}\n"));
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn names_that_differ_in_case_are_taken_with_a_warning() {
    let draft =
        read("f", WEB.replace("Size: 3", "size: 3").as_bytes(), Yaml::Unsaid).expect("it is accepted");
    assert_eq!(draft.specs[0].allocation, Allocation::Size(3));
    assert_eq!(
        draft.warnings.to_string(),
        "f:6:5: properties.Allocation.size: `size` is read as `Size`; write `Size`"
    );
    let options = WEB.replace("    Plugin: vanilla\n", "    Plugin: vanilla\n    Options: {a: 1}\n");
    assert_eq!(read("f", options.as_bytes(), Yaml::Unsaid).expect("accepted").warnings.list.len(), 1);
}

#[test]
fn the_gate_is_a_count_or_a_duration() {
    let gate = |updating: &str| specs(&format!("{WEB}  Updating: {updating}\n"))[0].updating.gate;
    assert_eq!(gate("{}"), HealthGate::Once);
    assert_eq!(gate("{Count: 2}"), HealthGate::Count(2));
    assert_eq!(gate("{Duration: 1m30s}"), HealthGate::Duration(Millis(90_000)));
    assert!(
        specs(&format!("{WEB}  Updating: {{SkipBeforeInstanceDestroy: drain}}\n"))[0].updating.skip_drain
    );
    assert!(
        problems(&format!("{WEB}  Updating: {{Count: 1, Duration: 1s}}\n"))
            .contains("both Count and Duration")
    );
    assert!(
        problems(&format!("{WEB}  Updating: {{SkipBeforeInstanceDestroy: bogus}}\n"))
            .contains("unknown value `bogus`")
    );
}

#[test]
fn how_a_group_is_updated_is_read_and_what_contradicts_itself_is_told_with_its_place() {
    let of = |updating: &str| specs(&format!("{WEB}  Updating: {updating}\n"))[0].updating;
    assert_eq!(of("{}"), Updating::default());
    let whole = of("{MaxSurge: 2, MaxUnavailable: 10%, HealthyDeadline: 30s, ProgressDeadline: 2m, \
                    MaxFailureRatio: 0.1, Monitor: 5s, OnFailure: rollback, \
                    Canary: {Count: 2, Bake: 1m, Promote: Manual}}");
    let expected = Updating {
        max_surge: Some(Amount::Members(2)),
        max_unavailable: Some(Amount::Percent(10)),
        healthy_deadline: Some(Millis::seconds(30)),
        progress_deadline: Some(Millis::seconds(120)),
        max_failures: Some(100),
        monitor: Millis::seconds(5),
        on_failure: OnFailure::Rollback,
        canary: Some(Canary { count: 2, bake: Millis::seconds(60), manual: true }),
        ..Updating::default()
    };
    assert_eq!(whole, expected);
    assert_eq!(of("{MaxFailureRatio: 12.5%}").max_failures, Some(125));
    for (updating, said) in [
        (
            "{MaxSurge: 0, MaxUnavailable: 0}",
            "properties.Updating.MaxUnavailable: MaxSurge and MaxUnavailable",
        ),
        ("{MaxSurge: 110%}", "properties.Updating.MaxSurge: 110% is more than all"),
        ("{MaxSurge: -1}", "properties.Updating.MaxSurge: `-1` is not a number of members"),
        ("{MaxSurge: [1]}", "properties.Updating.MaxSurge: expected a number of members"),
        ("{MaxFailureRatio: 2}", "properties.Updating.MaxFailureRatio: `2` is not a share"),
        ("{MaxFailureRatio: 0.0001}", "is not a share from 0 to 1 in thousandths"),
        ("{OnFailure: explode}", "unknown value `explode`; write one of `Pause`, `Continue`, `Rollback`"),
        ("{Canary: {Count: 9}}", "properties.Updating.Canary.Count: a canary of 9 in a group of"),
        ("{Canary: {Bak: 1m}}", "did you mean `Bake`?"),
        ("{HealthyDeadline: 2m, ProgressDeadline: 1m}", "is longer than the ProgressDeadline of 1m"),
        ("{HealthyDeadline: 10ms}", "10ms is not between 1s and"),
    ] {
        let told = problems(&format!("{WEB}  Updating: {updating}\n"));
        assert!(told.contains(said), "{updating}: {told}");
        assert!(told.contains("web.yaml:"), "it has a place: {told}");
    }
}

#[test]
fn what_is_no_spec_gets_one_clear_sentence() {
    for (text, said) in [
        ("", "web.yaml: the file has no group; declare one with `kind: group`"),
        ("{\"a\":", "web.yaml:1:6: not valid JSON"),
        ("a: [1", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("42", "web.yaml:1:1: expected a group, found a number"),
        ("kind: resource\nmetadata: {name: x}\n", "unknown kind `resource`"),
        ("Allocation: {Size: 1}\n", "without a name"),
        ("foo: bar\n", "it has neither `kind` nor `ID`"),
        ("? [a]\n: b\n", "a key is not a string"),
        (
            "{{/* a group */}}\n",
            "web.yaml:1:1: the file is a template, and templates are not rendered; render it first",
        ),
        ("\n {{ $x := 1 }}{\"ID\": \"web\"}", "render it first"),
    ] {
        let told = problems(text);
        assert!(told.contains(said), "{text:?} gave {told}");
    }
    let rubbish = read("f", &[0x7f, b'E', b'L', b'F', 0xff, 0xfe], Yaml::Unsaid).expect_err("rubbish");
    assert_eq!(rubbish.to_string(), "f: not valid UTF-8 at byte 5; give a JSON or YAML file");
    let large = read("f", &vec![b'x'; 10 << 20], Yaml::Unsaid).expect_err("too large");
    assert!(large.to_string().contains("10485760 bytes; at most 4194304 are accepted"), "{large}");
    for deep in ["[".repeat(100_000), "- ".repeat(50_000), "{\"a\":".repeat(50_000)] {
        assert!(read("f", deep.as_bytes(), Yaml::Unsaid).is_err());
    }
    let script = "x".repeat(GroupSpec::LARGEST);
    assert!(problems(&WEB.replace("echo hi", &script)).contains("at most 524288 are accepted"));
}

#[test]
fn to_json_serves_the_verbs_that_hand_a_file_on() {
    assert_eq!(to_json("f", b"a: [1, x]\n", Yaml::Unsaid).expect("yaml").json, r#"{"a":[1,"x"]}"#);
    assert_eq!(to_json("f", b"{ \"a\": 1 }", Yaml::Unsaid).expect("json").json, r#"{"a":1}"#);
    assert!(to_json("f", b"a: 1\n---\nb: 2\n", Yaml::Unsaid).is_err());
}

#[test]
fn a_map_for_a_plugin_has_the_known_fields_and_no_other() {
    let known = ["Properties", "Tags"];
    let read = |text: &str| {
        map_to_json("box.yaml", text.as_bytes(), Yaml::Unsaid, &known).map(|converted| converted.json)
    };
    assert_eq!(
        read("tags: {a: b}\nProperties: {x: 1}").unwrap(),
        r#"{"Tags":{"a":"b"},"Properties":{"x":1}}"#
    );
    assert_eq!(
        read("Tags: {}\nPropertis: {}").unwrap_err().to_string(),
        "box.yaml:2:1: Propertis: unknown field `Propertis`; did you mean `Properties`?"
    );
    assert_eq!(read("[]").unwrap_err().to_string(), "box.yaml:1:1: expected a map, found a list");
}
