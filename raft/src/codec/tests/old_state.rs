//! What 0.2.0 wrote into snapshots is read for ever, and means what it meant.

use super::*;

/// Each line is what 0.2.0 wrote after one more entry of the golden log. Nothing in it is ever changed.
#[test]
fn a_snapshot_of_0_2_0_is_read() {
    let (log, written) = (log(), include_str!("../golden_state_0_2_0.txt"));
    assert_eq!(written.lines().count(), 53, "one for each entry that the log had then");
    let mut state = State::default();
    for (line, (id, command)) in written.lines().zip(&log) {
        state.apply(*id, command);
        let read = decode_state(&unhex(line)).expect("it can be read");
        assert_eq!(read, state, "after entry {}", id.index);
        // Managers of both versions compare their states by what they write.
        assert_eq!(hex(&encode_state(&state)), line, "after entry {}", id.index);
    }
}

/// A replica that begins with a snapshot of 0.2.0 comes, with the rest of the log, to where all the others are.
#[test]
fn a_log_goes_on_from_any_snapshot_of_0_2_0() {
    let log = log();
    let whole = replay(State::default(), &log);
    for (line, cut) in include_str!("../golden_state_0_2_0.txt").lines().zip(1..) {
        let read = decode_state(&unhex(line)).expect("it can be read");
        assert_eq!(replay(read, &log[cut..]), whole, "cut at {cut}");
    }
}
