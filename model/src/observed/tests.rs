use super::*;
use crate::LogIndex;
use crate::ids::InstanceId;
use crate::plugin::{Guarantees, PluginClass};
use crate::tags::Tags;
use crate::{ClusterId, Lineages, Millis, tags};

#[test]
fn a_listing_tells_how_many_are_fewer_than_shortly_before_and_since_when_no_look_failed() {
    let one = |n: usize| {
        let description = Description {
            id: InstanceId::new(format!("i{n}")),
            logical_id: None,
            tags: Tags::new(),
            properties: None,
            state: None,
        };
        Arc::new(description)
    };
    let mut listings_seen = ListingHistory::default();
    let show = |listings_seen: &mut ListingHistory, n: usize, second: u64| {
        let listing = listings_seen.showed(
            (0..n).map(one).collect(),
            Guarantees::default(),
            Timestamp(second * 1000),
            LogIndex(0),
        );
        (listing.shrunk_by, listing.unbroken_since.0 / 1000)
    };
    assert_eq!(show(&mut listings_seen, 5, 1), (0, 1));
    assert_eq!(show(&mut listings_seen, 2, 2), (3, 1));
    assert_eq!(show(&mut listings_seen, 2, 7), (3, 1), "as long as the doubt lasts");
    listings_seen.failed();
    assert_eq!(show(&mut listings_seen, 2, 12), (0, 12), "then that is how many there are");
}

#[test]
fn a_missing_or_different_group_tag_is_no_match() {
    let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
    let item = |id: &str, tags: &[(&str, &str)]| {
        Arc::new(Description {
            id: id.into(),
            logical_id: None,
            tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            properties: None,
            state: None,
        })
    };
    let token = tags::token(&cluster, &Lineages::from(1), IntentId { index: LogIndex(7), offset: 2 });
    let listing = Listing {
        items: vec![
            item("bare", &[]),
            item("foreign", &[("tier", "web")]),
            item("other", &[(tags::GROUP, "web2")]),
            item("seed", &[(tags::GROUP, "web"), (tags::CONFIG_HASH, "bootstrap")]),
            item("mine", &[(tags::GROUP, "web"), (tags::OWNER, cluster.as_str()), (tags::INTENT, &token)]),
            item("theirs", &[(tags::GROUP, "web"), (tags::OWNER, "ffff"), (tags::INTENT, &token)]),
        ],
        taken_at: Timestamp(1),
        unbroken_since: Timestamp(1),
        shrunk_by: 0,
        after: LogIndex(0),
        guarantees: Guarantees { class: PluginClass::A, lists_within: Some(Millis(0)) },
        said_gone: Default::default(),
    };
    let view = View::of(&listing, &"web".into(), &cluster, &Lineages::from(1), |_| false);
    let ids: Vec<_> = view.seen.keys().map(InstanceId::as_str).collect();
    assert_eq!(ids, ["mine", "seed", "theirs"]);
    assert!(view.seen[&InstanceId::new("mine")].ours);
    assert!(view.seen[&InstanceId::new("seed")].bootstrap);
    assert!(!view.seen[&InstanceId::new("theirs")].ours);
    let by_intent: Vec<_> = view.by_intent.values().map(InstanceId::as_str).collect();
    assert_eq!(by_intent, ["mine"], "only our own tokens count");
}

#[test]
fn a_token_that_stands_twice_or_was_never_given_out_is_told_apart() {
    let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
    let intent = IntentId { index: LogIndex(7), offset: 2 };
    let item = |id: &str, token: Option<String>| {
        let mut tags = Tags::from([
            (tags::GROUP.to_owned(), "web".to_owned()),
            (tags::OWNER.to_owned(), cluster.to_string()),
        ]);
        tags.extend(token.map(|token| (tags::INTENT.to_owned(), token)));
        Arc::new(Description { id: id.into(), logical_id: None, tags, properties: None, state: None })
    };
    let of = |lineage: u32| Some(tags::token(&cluster, &Lineages::from(lineage), intent));
    let items = vec![
        item("first", of(2)),
        item("second", of(2)),
        item("before", of(1)),
        item("later", of(3)),
        item("garbled", Some("x".into())),
        item("bare", None),
    ];
    let listing = ListingHistory::default().showed(items, Guarantees::default(), Timestamp(1), LogIndex(0));
    let view = View::of(&listing, &"web".into(), &cluster, &Lineages::from(2), |_| false);
    assert_eq!(view.duplicates.len(), 1);
    let pair = [view.duplicates[0].1.as_str(), view.by_intent[&intent].as_str()];
    assert!(pair == ["first", "second"], "{pair:?}");
    let unknown_tokens: Vec<_> = view.unknown_tokens.keys().map(InstanceId::as_str).collect();
    assert_eq!(unknown_tokens, ["bare", "garbled", "later"], "an earlier lineage is this cluster's own");
    assert_eq!(view.seen[&InstanceId::new("before")].intent, None);
    assert!(view.seen[&InstanceId::new("before")].lost && !view.seen[&InstanceId::new("later")].lost);
    // An intent that was open when its lineage ended is known by the name that it had.
    let lineages = Lineages::from(1).followed_by(2, LogIndex(7));
    let view = View::of(&listing, &"web".into(), &cluster, &lineages, |_| false);
    assert_eq!(view.by_intent[&intent].as_str(), "before");
    assert!(
        view.duplicates.is_empty() && view.unknown_tokens.len() == 5,
        "nor was lineage 2 there before it began: {view:?}"
    );
}

#[test]
fn what_this_cluster_made_has_the_name_that_it_was_made_for() {
    let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
    let item = |id: &str, owner: &str, tagged: Option<&str>, listed: Option<&str>| {
        let mut tags = Tags::from([
            (tags::GROUP.to_owned(), "web".to_owned()),
            (tags::OWNER.to_owned(), owner.to_owned()),
        ]);
        tags.extend(tagged.map(|name| (tags::LOGICAL_ID.to_owned(), name.to_owned())));
        let logical_id = listed.map(Into::into);
        Arc::new(Description { id: id.into(), logical_id, tags, properties: None, state: None })
    };
    let ours = cluster.as_str();
    let items = vec![
        item("alike", ours, Some("a"), Some("a")),
        item("other", ours, Some("b"), Some("a")),
        item("cattle", ours, None, Some("c")),
        item("theirs", "", Some("d"), Some("e")),
    ];
    let listing = ListingHistory::default().showed(items, Guarantees::default(), Timestamp(1), LogIndex(0));
    let view = View::of(&listing, &"web".into(), &cluster, &Lineages::from(1), |_| false);
    let names: Vec<_> = view.seen.values().filter_map(|it| Some(it.logical_id()?.to_string())).collect();
    assert_eq!(names, ["a", "c", "b", "e"], "alike, cattle, other, theirs");
    assert_eq!(view.misnamed.len(), 1);
    assert_eq!(view.misnamed[&InstanceId::new("other")].as_str(), "a");
}
