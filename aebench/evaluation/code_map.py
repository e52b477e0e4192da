"""Where codes lie, as places in a plane: a picture's coordinates of one byte."""

import numpy as np

PERPLEXITY = 30  # about so many neighbours count
# Of t-SNE; in the first of them neighbours attract each other `EXAGGERATION` times as much.
# Measured on one thread, with how many of a code's 10 nearest are among the 10 nearest on the map:
#                               359 digits        1,000 images of CIFAR-10 (32 floats of PCA)
#   these, this module          0.13 s, 69 %      1.0 s, 34 %
#   500 steps, this module      0.23 s, 70 %      2.1 s, 34 %
#   500 steps, scikit-learn     0.67 s, 69 %      2.9 s, 34 %   + 1.4 s to import it
#   1,000 steps, scikit-learn   1.30 s, 68 %      4.8 s, 34 %   + 1.4 s
#   250 steps, its fewest       0.42 s, 20 %      1.0 s,  7 %   + 1.4 s
#   the plane of PCA            0.00 s, 30 %      0.0 s, 14 %
STEPS, FIRST_STEPS = 200, 50
EXAGGERATION = 12


def code_map(codes: np.ndarray, neighbours: bool) -> np.ndarray:
    """uint8 (m, n, 2): the places of the codes (n, d), float32 or pixels uint8, by PCA.

    With `neighbours` by t-SNE, too, unless there are fewer than four codes or all are equal.
    """
    centred = codes - codes.mean(axis=0, dtype=np.float64)
    centred /= np.abs(centred).max() or 1  # whose squares hold in a float
    first = plane(centred)
    maps = [places(first)]
    if neighbours and len(codes) > 3 and np.ptp(maps[0], axis=0).any():
        maps.append(places(by_neighbours(centred, first)))
    return np.stack(maps)


def plane(centred: np.ndarray) -> np.ndarray:
    """float64 (n, 2): along the two directions of most variance; 0 where there is one alone.

    The coordinate that is farthest from 0 is positive.
    """
    count, floats = centred.shape
    if floats <= count:
        found = centred @ np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    else:
        squares, directions = np.linalg.eigh(centred @ centred.T)
        found = (directions * np.sqrt(np.maximum(squares, 0)))[:, :-3:-1]
    found = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
    return found * np.sign(found[np.abs(found).argmax(axis=0), [0, 1]])


def by_neighbours(centred: np.ndarray, start: np.ndarray) -> np.ndarray:
    """float64 (n, 2): exact t-SNE from `start` (n, 2), with scikit-learn's constants.

    L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 2008.
    """
    count = len(start)
    attracting = affinities(centred).astype(np.float32)
    found = 1e-4 * start / (start.std(axis=0).max() or 1)
    # What lies on one line, or in one place, can leave it.
    found += 1e-5 * np.random.default_rng(0).standard_normal(found.shape)
    rate = max(count / EXAGGERATION / 4, 50)
    change, gains = np.zeros_like(found), np.ones_like(found)
    for step in range(STEPS):
        first = step < FIRST_STEPS
        at = found.astype(np.float32)
        nearness = squared_distances(at)
        nearness += 1
        np.reciprocal(nearness, out=nearness)
        np.fill_diagonal(nearness, 0)
        forces = attracting * EXAGGERATION if first else attracting
        forces = (forces - nearness / nearness.sum()) * nearness
        slope = 4 * (forces.sum(axis=1, keepdims=True) * at - forces @ at)
        gains = np.where(slope * change < 0, gains + 0.2, gains * 0.8).clip(0.01)
        change = (0.5 if first else 0.8) * change - rate * gains * slope
        found = found + change
    return found


def affinities(centred: np.ndarray) -> np.ndarray:
    """float64 (n, n), summing to 1: normal around each code, as wide as PERPLEXITY wants it."""
    count = len(centred)
    distances = squared_distances(centred)
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(axis=1, keepdims=True)
    near = np.sort(distances, axis=1)[:, : min(3 * PERPLEXITY, count - 1)]  # the rest hardly counts
    unit = near.mean(axis=1, keepdims=True)
    unit[unit == 0] = 1
    near /= unit
    wanted = np.log(min(PERPLEXITY, (count - 1) / 3))
    low, narrow, high = (np.full((count, 1), value) for value in (0.0, 1.0, np.inf))
    for _ in range(40):
        shares = np.exp(-narrow * near)
        total = shares.sum(axis=1, keepdims=True)
        entropy = np.log(total) + narrow * (shares * near).sum(axis=1, keepdims=True) / total
        too_wide = entropy > wanted
        low, high = np.where(too_wide, narrow, low), np.where(too_wide, high, narrow)
        narrow = np.where(np.isinf(high), 2 * narrow, (low + high) / 2)
    shares = np.exp(-narrow / unit * distances)
    shares /= shares.sum(axis=1, keepdims=True)
    return (shares + shares.T) / (2 * count)


def squared_distances(rows: np.ndarray) -> np.ndarray:
    """(n, n), between all rows (n, d)."""
    squares = np.square(rows).sum(axis=1)
    found = rows @ (-2 * rows.T)
    found += squares
    found += squares[:, None]
    return np.maximum(found, 0, out=found)


def places(found: np.ndarray) -> np.ndarray:
    """uint8 (n, 2): one scale for both coordinates, on which 99 % lie from 12 to 244.

    What lies farther out than 0 to 255 is moved to the edge: a few codes far off would press all
    others into one place.
    """
    low, high = np.percentile(found, (0.5, 99.5), axis=0)
    centre = (low + high) / 2
    # Of equal codes all but a few, what rounding makes of them is no spread.
    half = max((high - low).max() / 2, 1e-6 * np.abs(found - centre).max()) or 1.0
    return (128 + 116 * (found - centre) / half).round().clip(0, 255).astype(np.uint8)
