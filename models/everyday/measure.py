"""Measures leaf probabilities on held-out crops: recall and precision by group, source, size, calibration."""

import collections

import numpy as np

from everyday.pictures import LEAVES

TREE = {
    "person": ("person",),
    "vehicle": ("car", "truck", "bus"),
    "car": ("car",),
    "truck": ("truck",),
    "bus": ("bus",),
    "two-wheeler": ("motorcycle", "bicycle"),
    "motorcycle": ("motorcycle",),
    "bicycle": ("bicycle",),
    "animal": ("dog", "cat", "bird", "other_animal"),
    "dog": ("dog",),
    "cat": ("cat",),
    "bird": ("bird",),
}
PARENTS = {
    "car": "vehicle", "truck": "vehicle", "bus": "vehicle", "motorcycle": "two-wheeler", "bicycle": "two-wheeler",
    "dog": "animal", "cat": "animal", "bird": "animal", "other_animal": "animal",
}  # fmt: skip
# The groups of the goals: two-wheelers are vehicles there.
WIDE = {
    "person": ("person",),
    "vehicle": ("car", "truck", "bus", "motorcycle", "bicycle"),
    "animal": ("dog", "cat", "bird", "other_animal"),
    "none": ("none",),
}
NARROW = {"person": ("person",), "vehicle": TREE["vehicle"], "two-wheeler": TREE["two-wheeler"]}
NARROW |= {"animal": WIDE["animal"], "none": ("none",)}
SIZES = ((24, 48), (48, 96), (96, 192), (192, 9999))


def columns(leaves):
    """Indices of leaves."""
    return [LEAVES.index(leaf) for leaf in leaves]


def grouped(scores, groups):
    """Sums the probabilities of each group's leaves."""
    return np.stack([scores[:, columns(leaves)].sum(axis=1) for leaves in groups.values()], axis=1)


def group_targets(crops, groups):
    """The index of each crop's group."""
    of_leaf = {leaf: i for i, leaves in enumerate(groups.values()) for leaf in leaves}
    return np.array([of_leaf[crop.label] for crop in crops])


def balanced_weights(crops):
    """A weight for each crop that makes every (label, source) pair of a group count as the root of its crops."""
    counts = collections.Counter((crop.source, crop.label) for crop in crops)
    return np.array([counts[crop.source, crop.label] ** -0.5 for crop in crops])


def recall_and_precision(crops, scores, groups):
    """Returns group -> (count, recall, precision) of the best group of each crop."""
    target, best = group_targets(crops, groups), grouped(scores, groups).argmax(axis=1)
    out = {}
    for i, name in enumerate(groups):
        hit = ((best == i) & (target == i)).sum()
        count, claimed = (target == i).sum(), (best == i).sum()
        out[name] = count, hit / count if count else float("nan"), hit / claimed if claimed else float("nan")
    return out


def calibration_error(correct, confidence, bins=15):
    """Expected calibration error in equally wide bins."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[index == b].mean() - confidence[index == b].mean()) * (index == b).mean()
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps))


def overconfident(crops, scores, at=0.7):
    """Shares at this confidence: of none crops that are claimed as something, of claims that are wrong."""
    target, sums = group_targets(crops, WIDE), grouped(scores, WIDE)
    best, sure = sums.argmax(axis=1), sums.max(axis=1) >= at
    none = target == 3
    claimed = (sure & (best != 3))[none].mean() if none.any() else float("nan")
    return claimed, (sure & (best != target)).sum() / max(1, sure.sum())


def summary(crops, scores):
    """One line: recall/precision of the wide groups, small and large people, false claims."""
    parts = [f"{k} {r:.3f}/{p:.3f}" for k, (_, r, p) in recall_and_precision(crops, scores, WIDE).items()]
    best = grouped(scores, WIDE).argmax(axis=1)
    for low, high in ((24, 48), (48, 96), (96, 9999)):
        chosen = [
            i for i, c in enumerate(crops) if c.label == "person" and c.kind == "whole" and low <= c.side < high
        ]
        if chosen:
            parts.append(f"people {low}+ {(best[chosen] == 0).mean():.3f} of {len(chosen)}")
    claimed, wrong = overconfident(crops, scores)
    leaf = np.mean([LEAVES[k] == crop.label for k, crop in zip(scores.argmax(axis=1), crops)])
    return " ".join(parts) + f" none over 0.7 {claimed:.3f} wrong at 0.7 {wrong:.3f} leaf {leaf:.3f}"


def report(crops, scores):
    """Prints the tables of the model card."""
    for title, groups in (("two-wheelers are vehicles", WIDE), ("two-wheelers apart", NARROW)):
        rows = recall_and_precision(crops, scores, groups)
        print(f"{title}: " + ", ".join(f"{k} {r:.3f}/{p:.3f} ({n})" for k, (n, r, p) in rows.items()))
    target, sums = group_targets(crops, WIDE), grouped(scores, WIDE)
    best = sums.argmax(axis=1)
    for source in sorted({crop.source for crop in crops}):
        chosen = np.array([crop.source == source for crop in crops])
        rows = recall_and_precision([c for c in crops if c.source == source], scores[chosen], WIDE)
        parts = [f"{k} {r:.3f} ({n})" for k, (n, r, _) in rows.items() if n]
        claimed, wrong = overconfident([c for c in crops if c.source == source], scores[chosen])
        print(f"  {source}: right {(best == target)[chosen].mean():.3f}, recall {', '.join(parts)}, wrong at 0.7 {wrong:.3f}")
    for low, high in SIZES:
        whole = [i for i, c in enumerate(crops) if c.label == "person" and c.kind == "whole"]
        chosen = [i for i in whole if low <= crops[i].side < high]
        by = collections.defaultdict(list)
        for i in chosen:
            by[crops[i].source].append(best[i] == 0)
        if chosen:
            detail = ", ".join(f"{s} {np.mean(v):.3f} ({len(v)})" for s, v in sorted(by.items()))
            print(f"  people {low} to {high}: {(best[chosen] == 0).mean():.3f} ({len(chosen)}): {detail}")
    by = collections.defaultdict(list)
    for i, crop in enumerate(crops):
        if crop.label == "none" or crop.kind in ("part", "rider"):
            by[crop.kind].append(i)
    for kind, chosen in sorted(by.items()):
        sure = (sums[chosen].max(axis=1) >= 0.7) & (best[chosen] != target[chosen])
        print(f"  {kind}: right {(best == target)[chosen].mean():.3f} ({len(chosen)}), over 0.7 as another {sure.mean():.3f}")
    for i, leaf in enumerate(LEAVES):
        chosen = np.array([crop.label == leaf for crop in crops])
        claimed = scores.argmax(axis=1) == i
        if chosen.any():
            recall, precision = claimed[chosen].mean(), chosen[claimed].mean() if claimed.any() else float("nan")
            print(f"  leaf {leaf}: recall {recall:.3f}, precision {precision:.3f} ({chosen.sum()})")
    claimed, wrong = overconfident(crops, scores)
    leaf_right = np.array([LEAVES[k] == crop.label for k, crop in zip(scores.argmax(axis=1), crops)])
    print(f"none over 0.7 as something {claimed:.4f}, wrong among all over 0.7 {wrong:.4f}")
    print(
        f"calibration error: groups {calibration_error(best == target, sums.max(axis=1)):.3f}, "
        f"leaves {calibration_error(leaf_right, scores.max(axis=1)):.3f}"
    )
