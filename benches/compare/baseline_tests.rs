use super::*;
use crate::figures::Rounds;
use crate::pairs::Verdict;
use crate::rounds::Results;

fn judge(old: Rounds, new: Rounds) -> (String, Verdict) {
    let rounds = BUILDS.contenders.into_iter().zip([old, new]).collect();
    BUILDS.judge(&[Results { row: &ROWS[0], rounds }])
}

fn rounds(figure: Figure, values: &[f64]) -> Rounds {
    Rounds(values.iter().map(|value| Ok(vec![(figure, *value)])).collect())
}

fn verdict(figure: Figure, old: &[f64], new: &[f64]) -> Verdict {
    judge(rounds(figure, old), rounds(figure, new)).1
}

#[test]
fn the_median_of_the_ratios_of_pairs_decides() {
    // The machine became three times as slow after the first pair; the medians by themselves are 30 and 90.
    let old = [90.0, 30.0, 30.0];
    assert_eq!(verdict(Figure::Calls, &old, &[90.0, 30.0, 90.0]), Verdict::Holds);
    assert_eq!(verdict(Figure::Calls, &old, &[85.0, 28.0, 90.0]), Verdict::Missed);
}

#[test]
fn each_figure_has_its_bound_and_a_better_value_never_fails() {
    use Verdict::{Better, Holds, Missed};
    for (figure, cases) in [
        (Figure::Processor, [(1.03, Holds), (1.04, Missed), (0.98, Holds), (0.5, Better)]),
        (Figure::Calls, [(0.95, Holds), (0.94, Missed), (1.04, Holds), (2.0, Better)]),
        (Figure::Mebibytes, [(0.95, Holds), (0.94, Missed), (1.04, Holds), (2.0, Better)]),
        (Figure::Deliveries, [(0.95, Holds), (0.94, Missed), (1.04, Holds), (2.0, Better)]),
        (Figure::P50, [(1.05, Holds), (1.06, Missed), (0.96, Holds), (0.5, Better)]),
    ] {
        for (ratio, expected) in cases {
            assert_eq!(verdict(figure, &[1.0; 3], &[ratio; 3]), expected, "{figure:?} {ratio}");
        }
    }
    // A figure without a bound does not change the verdict.
    assert_eq!(verdict(Figure::P99, &[1.0], &[9.0]), Better);
}

#[test]
fn failures_of_the_new_build_are_shown_and_hold_nothing() {
    let closed = || Err("closed".to_owned());
    let readings = |calls| Ok(vec![(Figure::Calls, calls)]);
    let (text, worst) =
        judge(Rounds(vec![readings(1.0), readings(1.0)]), Rounds(vec![readings(1.0), closed()]));
    assert_eq!(worst, Verdict::Missed);
    for part in ["| 1.000 ", "| **no** |", ": new: 1 of 2 rounds failed: closed\n"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let lost = Rounds(vec![Ok(vec![(Figure::Deliveries, 9.0), (Figure::Lost, 2.0)])]);
    let (text, worst) = judge(rounds(Figure::Deliveries, &[1.0]), lost);
    assert_eq!(worst, Verdict::Missed);
    assert!(text.contains(": new: 2.00 % lost in the worst round\n"), "{text}");
    // A build that fails in every round shows no figure to judge.
    let (_, worst) = judge(Rounds(vec![closed()]), Rounds(vec![closed()]));
    assert_eq!(worst, Verdict::Missed);
}

#[test]
fn a_baseline_that_fails_leaves_the_verdict_open() {
    let closed = || Err("closed".to_owned());
    let (text, worst) = judge(Rounds(vec![closed()]), rounds(Figure::Calls, &[1.0]));
    assert_eq!(worst, Verdict::Unknown);
    assert!(text.contains(": baseline: failed: closed\n"), "{text}");
    let half = Rounds(vec![closed(), Ok(vec![(Figure::Calls, 1.0)])]);
    assert_eq!(judge(half, rounds(Figure::Calls, &[3.0, 1.0])).1, Verdict::Holds);
}

#[test]
fn every_kind_of_speed_is_compared() {
    let names: Vec<_> = rows().map(|row| row.name).collect();
    for name in [
        "64 B calls, 64 open, Unix",
        "64 B calls, 1 open, Unix",
        "8 KiB calls, 32 open, Unix",
        "1 MiB calls, 4 open, Unix",
        "streams of 100 × 4 KiB, 4 open, Unix",
        "broadcast to 16, 16 ahead, Unix",
        "broadcast to 16, 16 ahead, TCP",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}
