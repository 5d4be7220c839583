use super::*;
use crate::spec::{Allocation, Healing, HealthGate};
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
    match read("f", text.as_bytes()) {
        Ok(draft) => draft.specs,
        Err(problems) => panic!("{problems}"),
    }
}

fn problems(text: &str) -> String {
    read("web.yaml", text.as_bytes()).expect_err("this should be refused").to_string()
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
    let draft = read("f", two.as_bytes()).expect("it is valid");
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

#[test]
fn yaml_is_read_by_the_rules_of_1_2() {
    let text = WEB.replace(
        "      image: v1\n",
        "      y: on\n      n: no\n      hex: 0x1F\n      oct: 012\n      big: 12345678901234567890\n      half: .5\n      e: 1e3\n      text: \"1\"\n      ver: 1.2.3\n      nil: ~\n      date: 2026-11-20\n",
    );
    assert_eq!(
        specs(&text)[0].template.instance.properties.as_json(),
        r#"{"y":"on","n":"no","hex":31,"oct":12,"big":12345678901234567890,"half":0.5,"e":1e3,"text":"1","ver":"1.2.3","nil":null,"date":"2026-11-20"}"#
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
    let of =
        |allocation: &str| read("f", format!(r#"{{"ID":"g","Properties":{}}}"#, body(allocation)).as_bytes());
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
    let draft = read("f", WEB.replace("Size: 3", "size: 3").as_bytes()).expect("it is accepted");
    assert_eq!(draft.specs[0].allocation, Allocation::Size(3));
    assert_eq!(
        draft.warnings.to_string(),
        "f:6:5: properties.Allocation.size: `size` is read as `Size`; write `Size`"
    );
    let options = WEB.replace("    Plugin: vanilla\n", "    Plugin: vanilla\n    Options: {a: 1}\n");
    assert_eq!(read("f", options.as_bytes()).expect("accepted").warnings.list.len(), 1);
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
    let rubbish = read("f", &[0x7f, b'E', b'L', b'F', 0xff, 0xfe]).expect_err("rubbish");
    assert_eq!(rubbish.to_string(), "f: not valid UTF-8 at byte 5; give a JSON or YAML file");
    let large = read("f", &vec![b'x'; 10 << 20]).expect_err("too large");
    assert!(large.to_string().contains("10485760 bytes; at most 4194304 are accepted"), "{large}");
    for deep in ["[".repeat(100_000), "- ".repeat(50_000), "{\"a\":".repeat(50_000)] {
        assert!(read("f", deep.as_bytes()).is_err());
    }
    let script = "x".repeat(GroupSpec::LARGEST);
    assert!(problems(&WEB.replace("echo hi", &script)).contains("at most 524288 are accepted"));
}

#[test]
fn to_json_serves_the_verbs_that_hand_a_file_on() {
    assert_eq!(to_json("f", b"a: [1, x]\n").expect("yaml"), r#"{"a":[1,"x"]}"#);
    assert_eq!(to_json("f", b"{ \"a\": 1 }").expect("json"), r#"{"a":1}"#);
    assert!(to_json("f", b"a: 1\n---\nb: 2\n").is_err());
}

#[test]
fn a_map_for_a_plugin_has_the_known_fields_and_no_other() {
    let known = ["Properties", "Tags"];
    let read = |text: &str| map_to_json("box.yaml", text.as_bytes(), &known);
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
