//! Single seeds: that one repeats its run, and those that once found a defect.

use sim::{Plan, run};

#[test]
fn a_seed_repeats_its_run_call_by_call() {
    let once = run(7, &Plan::default());
    assert_eq!(once, run(7, &Plan::default()));
    assert_ne!(once.history, run(8, &Plan::default()).history, "another seed is another run");
}

/// What a seed attacks changes with the simulation; the law that each led to stands in the model.
#[test]
fn seeds_that_were_red_stay_green() {
    for (seed, what) in [
        (112, "looks from before a member was listed were counted against it"),
        (222, "a listing that lags behind was taken for the end of a destroy"),
        (931, "the same, and the slot was filled beside it"),
    ] {
        assert_eq!(run(seed, &Plan::default()).violations, Vec::<String>::new(), "seed {seed}: {what}");
    }
}
