"""Boxes out of the maps, and their average precision."""

import cv2
import numpy as np

MOST, LEAST_SCORE, NMS_IOU = 100, 0.02, 0.45


def found(logits, boxes, least=LEAST_SCORE):
    """Returns detections m x 6 (box, score, class) of one picture: logits k x 4, boxes k x 4, by class."""
    out = []
    for kind in range(logits.shape[1]):
        scores = 1 / (1 + np.exp(-logits[:, kind]))
        best = np.argsort(-scores, kind="stable")[: 3 * MOST]
        best = best[scores[best] > least]
        if not len(best):
            continue
        sides = np.concatenate([boxes[best, :2], boxes[best, 2:] - boxes[best, :2]], 1)
        kept = cv2.dnn.NMSBoxes(sides.tolist(), scores[best].tolist(), least, NMS_IOU)
        kept = best[np.array(kept, int).reshape(-1)][:MOST]
        out.append(np.concatenate([boxes[kept], scores[kept, None], np.full((len(kept), 1), kind)], 1))
    return np.concatenate(out) if out else np.zeros((0, 6))


def iou(a, b):
    """Intersection over union of boxes n x 4 and m x 4: n x m."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    common = np.clip(high - low, 0, None).prod(2)
    areas = (a[:, 2:4] - a[:, :2]).prod(1)[:, None] + (b[:, 2:4] - b[:, :2]).prod(1)[None]
    return common / (areas - common + 1e-9)


def ranked(detections, truths, least_iou=0.5):
    """Returns (scores, falling; whether each is right; number of objects).

    detections: for each picture n x 5 (box, score); truths: for each picture m x 4. An object counts once; each
    detection takes the best free object.
    """
    scores, hits = [], []
    for its, truth in zip(detections, truths):
        used = np.zeros(len(truth), bool)
        overlaps = iou(its, truth) if len(its) and len(truth) else np.zeros((len(its), len(truth)))
        for i in np.argsort(-its[:, 4], kind="stable"):
            free = np.where(used, 0, overlaps[i])
            hit = len(truth) > 0 and free.max() >= least_iou
            if hit:
                used[free.argmax()] = True
            scores.append(its[i, 4])
            hits.append(hit)
    order = np.argsort(-np.array(scores), kind="stable")
    return np.array(scores)[order], np.array(hits, bool)[order], sum(len(truth) for truth in truths)


def average_precision(detections, truths, least_iou=0.5):
    """Returns (AP by all points, recall, number of objects)."""
    scores, hits, total = ranked(detections, truths, least_iou)
    if not total or not len(scores):
        return 0.0, 0.0, total
    precision = np.maximum.accumulate((np.cumsum(hits) / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(precision[hits].sum() / total), float(hits.sum() / total), total


def threshold(detections, truths):
    """Returns the score from which on the harmonic mean of precision and recall is best."""
    scores, hits, total = ranked(detections, truths)
    if not len(scores):
        return 1.0
    return float(scores[np.argmax(2 * np.cumsum(hits) / (np.arange(1, len(hits) + 1) + total))])
