"""Which cell answers for which object, and the loss.

Assignment by cost (SimOTA): a cell may answer for an object if its centre is inside the box and near its
middle; those with the least cost of class and box do, as many as the boxes of the best cells fit well. The
target of the class is the overlap that the box reaches, times the score of a teacher's box. What is unclear is
no target at all.

The teacher's answers for each cell are targets besides, except where a person's box has an answer already.
"""

import numpy as np
import torch
from torch.nn import functional

from detector.net import CLASSES, decode

CANDIDATES = 10
# In strides around the middle of a box.
RADIUS = 2.5
BOX_COST, BOX_WEIGHT = 3.0, 2.0
# Cells inside a box that do not answer for it are weak examples of background for its class.
INSIDE_WEIGHT = 0.5
# From this score on a teacher's answer has a box, and how much of its score counts where people disagree.
TEACHER_SEES, OVERRULED_TRUST = 0.1, 0.5


def pair_iou(a, b):
    """Intersection over union of boxes n x 4 and k x 4: n x k."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clamp(0).prod(2)
    areas = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None]
    return common / (areas - common + 1e-6)


def giou(a, b):
    """Generalised intersection over union of boxes m x 4, one by one; and the plain one."""
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - common
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = common / union.clamp(1e-6)
    return iou - (hull - union) / hull.clamp(1e-6), iou


def assign(logits, predicted, cells, boxes, classes):
    """Returns for each cell the object that it answers for, or -1.

    logits: k x 4; predicted: k x 4 boxes; cells: k x 3; boxes: n x 4; classes: n.
    """
    out = torch.full((len(cells),), -1, dtype=torch.long)
    if not len(boxes):
        return out
    x, y, stride = cells[:, 0], cells[:, 1], cells[:, 2]
    inside = (x > boxes[:, :1]) & (x < boxes[:, 2:3]) & (y > boxes[:, 1:2]) & (y < boxes[:, 3:])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = torch.maximum((x - middle[:, :1]).abs(), (y - middle[:, 1:]).abs())
    possible = inside & (offset < RADIUS * stride)
    # An object between the centres: the nearest cell of the finest map.
    lost = torch.nonzero(~possible.any(1)).flatten()
    finest = torch.nonzero(stride == stride.min()).flatten()
    possible[lost, finest[offset[lost][:, finest].argmin(1)]] = True
    iou = pair_iou(boxes, predicted) * possible
    probability = logits.sigmoid()[:, classes].T
    wrong = -(probability + 1e-6).log() * (1 - probability) ** 2
    cost = wrong + BOX_COST * -(iou + 1e-6).log() + 1e5 * ~possible
    counts = iou.topk(min(CANDIDATES, iou.shape[1]), 1).values.sum(1).int().clamp(1)
    chosen = torch.zeros_like(possible)
    order = cost.argsort(1)[:, :CANDIDATES]
    for i, count in enumerate(counts.tolist()):
        chosen[i, order[i, :count]] = True
    chosen &= possible
    # A cell that several objects want takes the cheapest.
    best = torch.where(chosen, cost, torch.inf).min(0)
    wanted = chosen.any(0)
    out[wanted] = best.indices[wanted]
    return out


def weights_of(cells, boxes, unclear, areas):
    """Returns the weight of each class as background in each cell, k x 4."""
    x, y = cells[:, 0], cells[:, 1]
    weights = torch.ones(len(cells), len(CLASSES))

    def within(rows, margin=0.0):
        row = rows[:, :4, None]
        return (x > row[:, 0] - margin) & (x < row[:, 2] + margin) & (y > row[:, 1] - margin) & (y < row[:, 3] + margin)

    for inside, area in zip(within(areas), areas):
        weights[inside] = area[4:]
    for inside, row in zip(within(boxes), boxes):
        weights[inside, int(row[4])] = torch.minimum(weights[inside, int(row[4])], torch.tensor(INSIDE_WEIGHT))
    for inside, row in zip(within(unclear, 2.0), unclear):
        weights[inside, int(row[4])] = 0
    return weights


def loss_of(logits, logarithms, cells, samples, taught):
    """Returns (loss of classes, loss of boxes, objects, loss from the teacher) of a batch.

    samples: from data.Samples.draw, without the pictures. taught: (scores, boxes) of teacher.Teacher.
    """
    decoded = decode(logarithms, cells)
    targets, weights, answered, wanted, quality = torch.zeros_like(logits), [], [], [], []
    trusted = torch.ones_like(logits)
    for i, (boxes, unclear, areas) in enumerate(samples):
        boxes, unclear, areas = (torch.from_numpy(np.ascontiguousarray(rows)) for rows in (boxes, unclear, areas))
        weight = weights_of(cells, boxes, unclear, areas)
        trusted[i] = trust_of(weight, taught[0][i])
        with torch.no_grad():
            classes = boxes[:, 4].long()
            taken = assign(logits[i], decoded[i], cells, boxes[:, :4], classes)
            positive = torch.nonzero(taken >= 0).flatten()
            its = taken[positive]
            _, iou = giou(decoded[i, positive], boxes[its, :4])
            target = iou.clamp(0.1) * boxes[its, 5]
            targets[i, positive, classes[its]] = target
            weight[positive, classes[its]] = 1
            by_people = boxes[its, 5] == 1
            trusted[i, positive[by_people], classes[its[by_people]]] = 0
        weights.append(weight)
        answered.append(decoded[i, positive])
        wanted.append(boxes[its, :4])
        quality.append(target)
    weights, answered, wanted, quality = torch.stack(weights), torch.cat(answered), torch.cat(wanted), torch.cat(quality)
    total = quality.sum().clamp(1)
    plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    classes = (plain * (targets - logits.sigmoid().detach()).abs() ** 2 * weights).sum() / total
    boxes = ((1 - giou(answered, wanted)[0]) * quality).sum() / total if len(wanted) else logits.sum() * 0
    return classes, BOX_WEIGHT * boxes, len(wanted), distillation(logits, decoded, trusted, *taught)


def trust_of(background, scores):
    """Returns how much the teacher's scores count, k x 4. background: from weights_of; scores: the teacher's.

    Less where people have boxed nothing of a class that they have boxed everywhere. In unclear regions the
    teacher counts only where it finds something.
    """
    trust = torch.where(background == 1, torch.tensor(OVERRULED_TRUST), torch.tensor(1.0))
    return torch.where((background == 0) & (scores < TEACHER_SEES), torch.tensor(0.0), trust)


def distillation(logits, decoded, trust, scores, boxes):
    """Returns how far the answers are from the teacher's. scores, boxes: N x k x 4."""
    sees, kinds = (scores * (trust > 0)).max(-1)
    total = sees[sees > TEACHER_SEES].sum().clamp(1)
    plain = functional.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    classes = (plain * (scores - logits.sigmoid().detach()).abs() * trust).sum() / total
    chosen = torch.nonzero(sees > TEACHER_SEES, as_tuple=True)
    if not len(chosen[0]):
        return classes
    off = (1 - giou(decoded[chosen], boxes[chosen])[0]) * sees[chosen] * trust[(*chosen, kinds[chosen])]
    return classes + BOX_WEIGHT * off.sum() / total
