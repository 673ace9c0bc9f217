"""Has the distribution changed? Fixed-sample tests of two samples, a reference and what came later.

Each answers with a p-value that is calibrated: where nothing has changed, 5 of 100 are 0.05 or below, at most, at every
sample size. A PSI above 0.1 is no such thing (docs/decisions/0014). All take rows to be exchangeable: requests of one
session are not, so give one row per session. To look again and again, use `drift_stream`. Arithmetic only: no limits,
no verdicts.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, xlogy

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.sequential import numbers

__all__ = ["DriftResult", "binned", "chi_square", "jensen_shannon", "kolmogorov_smirnov", "maximum_mean_discrepancy",
           "population_stability"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Floats, Floats], Floats]

RESAMPLES = 999
LEAST_EXPECTED = 5  # Cochran's rule: below it in any cell, chi-square's p-value is found by resampling
MOST_RESAMPLED = 10**9  # rows in a table of counts; numpy's hypergeometric sampler takes no more
MOST_KERNEL_ROWS = 1_000  # of each sample: the kernel matrix takes (2 * 1,000)^2 * 8 bytes = 32 MB


class DriftResult(NamedTuple):
    """What a drift test found.

    Attributes:
        test: the function's name.
        statistic: in the test's own unit; compare it between runs of equal sample size only.
        p_value: probability of a statistic at least as large where nothing has changed.
        method: how the p-value was found.
        detail: where the largest change is, for a person.
        reference: rows of the reference.
        current: rows of what came later.
    """

    test: str
    statistic: float
    p_value: float
    method: str
    detail: str
    reference: int
    current: int


def kolmogorov_smirnov(reference: npt.ArrayLike, current: npt.ArrayLike) -> DriftResult:
    """Compare two samples of numbers by the largest gap between their distribution functions.

    The p-value is exact for up to 10,000 rows a sample (Hodges 1958) and asymptotic above; with ties it is too large.

    Args:
        reference: (n,) finite numbers.
        current: (m,) the same.

    Raises:
        ContractError: a sample is empty, or holds NaN or infinity.
    """
    from scipy.stats import ks_2samp

    one, other = _sample("reference", reference, 1), _sample("current", current, 1)
    found = ks_2samp(one, other, method="auto")
    at = float(found.statistic_location)
    before, after = float(np.mean(one <= at)), float(np.mean(other <= at))
    return DriftResult("kolmogorov_smirnov", float(found.statistic), float(found.pvalue),
                       "exact" if max(len(one), len(other)) <= 10_000 else "asymptotic",
                       f"values up to {at:g}: {before:.1%} before, {after:.1%} now", len(one), len(other))


def chi_square(reference: npt.ArrayLike, current: npt.ArrayLike, *, resamples: int = RESAMPLES,
               seed: int = 0) -> DriftResult:
    """Compare two tables of counts by Pearson's chi-square test of homogeneity.

    Where a cell expects fewer than 5 rows, the p-value is found by resampling, as in `population_stability`: no classes
    are merged, so a new rare class counts.

    Args:
        reference: (k,) rows of each class.
        current: (k,) the same classes, in the same order.
        resamples: for small counts.
        seed: for small counts.

    Raises:
        ContractError: other classes, negative or broken counts, or no rows.
    """
    one, other = _tables(reference, current)
    total = one + other
    used = total > 0
    statistic = float(_chi_square(one[used], other[used]))
    expected = total[used].min() * min(one.sum(), other.sum()) / total.sum()
    if expected < LEAST_EXPECTED:
        return _resampled("chi_square", _chi_square, one, other, resamples, seed)
    freedom = int(used.sum()) - 1
    p_value = float(chdtrc(freedom, statistic)) if freedom else 1.0
    return DriftResult("chi_square", statistic, p_value, f"chi-square, {freedom} degrees of freedom",
                       _largest_move(one, other), int(one.sum()), int(other.sum()))


def population_stability(reference: npt.ArrayLike, current: npt.ArrayLike, *, resamples: int = RESAMPLES,
                         seed: int = 0) -> DriftResult:
    """Compare two tables of counts by the population stability index, sum of (q - p) ln(q / p).

    Half a row is added to every cell, so that an empty one costs something finite. Where nothing has changed the index
    is about (k - 1)(1/n + 1/m), so a fixed limit means another thing at each sample size. The p-value is a permutation
    test's: rows are dealt anew to the two samples, the rows of each class kept, which is exact at every size.

    Args:
        reference: (k,) rows of each class or bin; for numbers, `binned` makes them.
        current: (k,) the same.
        resamples: the smallest p-value is 1 / (resamples + 1).
        seed: of the resampling.

    Raises:
        ContractError: other classes, negative or broken counts, or no rows.
        ConfigError: fewer than 19 resamples.
    """
    return _resampled("population_stability", _population_stability, *_tables(reference, current), resamples, seed)


def jensen_shannon(reference: npt.ArrayLike, current: npt.ArrayLike, *, resamples: int = RESAMPLES,
                   seed: int = 0) -> DriftResult:
    """Compare two tables of counts by the Jensen-Shannon divergence of their shares, in bits: from 0 to 1 (Lin 1991).

    The p-value is found as in `population_stability`; arguments and errors are the same.
    """
    return _resampled("jensen_shannon", _jensen_shannon, *_tables(reference, current), resamples, seed)


def binned(reference: npt.ArrayLike, current: npt.ArrayLike, bins: int = 10) -> tuple[Counts, Counts]:
    """Count two samples of numbers in bins that hold equally many rows of both together.

    Edges from both samples do not change when rows are dealt anew; edges from the reference alone would, and the
    permutation test would not be exact.

    Args:
        reference: (n,) finite numbers.
        current: (m,) the same.
        bins: at most; values that repeat often make fewer.

    Returns:
        (k,) and (k,) counts, k at most `bins`.
    """
    if bins < 2:
        raise ConfigError(f"bins={bins} must be at least 2, for example 10")
    one, other = _sample("reference", reference, 1), _sample("current", current, 1)
    both = np.concatenate([one, other])
    edges = np.unique(np.quantile(both, np.arange(1, bins) / bins, method="inverted_cdf"))
    edges = edges[edges < both.max()]  # nothing is above the largest value
    counted = [np.bincount(np.searchsorted(edges, part, side="left"), minlength=len(edges) + 1)
               for part in (one, other)]
    return counted[0].astype(np.int64), counted[1].astype(np.int64)


def maximum_mean_discrepancy(reference: npt.ArrayLike, current: npt.ArrayLike, *, resamples: int = 199,
                             most: int = MOST_KERNEL_ROWS, seed: int = 0) -> DriftResult:
    """Compare two samples of vectors, for example embeddings, by their mean Gaussian kernel (Gretton et al. 2012).

    The estimate is the unbiased one, so it may be negative; the width of the kernel is the median distance of all
    pairs; the p-value is a permutation test's. Columns count as they are scaled: scale them before, by the reference.

    Args:
        reference: (n, d) finite numbers, n at least 2; (n,) is taken as (n, 1).
        current: (m, d) the same.
        resamples: the smallest p-value is 1 / (resamples + 1).
        most: rows of a sample; of a larger one, so many are drawn, since memory grows with the square.
        seed: of the draw and the permutations.

    Raises:
        ContractError: other columns, too few rows, NaN or infinity.
        ConfigError: fewer than 19 resamples, or `most` below 2.
    """
    if most < 2:
        raise ConfigError(f"most={most} must be at least 2 rows, for example {MOST_KERNEL_ROWS}")
    _check_resamples(resamples)
    one, other = _sample("reference", reference, 2), _sample("current", current, 2)
    if one.shape[1] != other.shape[1]:
        raise ContractError(f"the reference has {one.shape[1]} columns and current has {other.shape[1]}; "
                            "give the same features in the same order")
    if min(len(one), len(other)) < 2:
        raise ContractError(f"{len(one)} and {len(other)} rows are too few for a distance; give at least 2 of each")
    generator = np.random.default_rng(seed)
    drawn = [part if len(part) <= most else part[generator.choice(len(part), most, replace=False)]
             for part in (one, other)]
    kernel, width = _gaussian_kernel(np.concatenate(drawn))
    n, rows = len(drawn[0]), len(kernel)
    dealt = np.zeros((rows, resamples + 1))  # a column is 1 where the row is dealt to the reference
    dealt[:n, 0] = 1.0
    dealt[:, 1:] = generator.permuted(np.repeat(dealt[:, :1], resamples, axis=1), axis=0)
    inside = np.einsum("ij,ij->j", dealt, kernel @ dealt)
    touching = kernel.sum(axis=0) @ dealt
    rest = kernel.sum() - 2 * touching + inside
    m = rows - n
    found = inside / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * (touching - inside) / (n * m)
    subset = f" of {n:,} and {m:,} rows drawn" if (n, m) != (len(one), len(other)) else ""
    return DriftResult("maximum_mean_discrepancy", float(found[0]), _rank(found[0], found[1:]),
                       f"permutation, {resamples} resamples{subset}", f"kernel width {width:g}", len(one), len(other))


def _gaussian_kernel(rows: Floats) -> tuple[Floats, float]:
    """Return the (N, N) kernel with 0 on its diagonal, and the median distance."""
    rows = rows - rows.mean(axis=0)  # far from 0, the difference of squares would round the distances away
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0.0)
    np.fill_diagonal(distances, 0.0)
    between = distances[np.triu_indices(len(rows), 1)]
    median = float(np.median(between)) or float(between.mean()) or 1.0  # over half the pairs may be equal
    kernel = np.exp(-distances / (2 * median))
    np.fill_diagonal(kernel, 0.0)
    return kernel, median**0.5


def _population_stability(one: Floats, other: Floats) -> Floats:
    cells = one.shape[-1]
    p = (one + 0.5) / (one.sum(axis=-1, keepdims=True) + cells / 2)
    q = (other + 0.5) / (other.sum(axis=-1, keepdims=True) + cells / 2)
    found: Floats = ((q - p) * np.log(q / p)).sum(axis=-1)
    return found


def _jensen_shannon(one: Floats, other: Floats) -> Floats:
    p, q = one / one.sum(axis=-1, keepdims=True), other / other.sum(axis=-1, keepdims=True)
    middle = np.where(p + q > 0, (p + q) / 2, 1.0)
    found: Floats = (xlogy(p, p / middle) + xlogy(q, q / middle)).sum(axis=-1) / (2 * np.log(2))
    return found


def _chi_square(one: Floats, other: Floats) -> Floats:
    n, m = one.sum(axis=-1, keepdims=True), other.sum(axis=-1, keepdims=True)
    total = np.maximum(one + other, 1.0)
    found: Floats = ((one * m - other * n) ** 2 / total).sum(axis=-1) / (n * m)[..., 0]
    return found


def _resampled(test: str, statistic: Statistic, one: Floats, other: Floats, resamples: int, seed: int) -> DriftResult:
    _check_resamples(resamples)
    total = (one + other).astype(np.int64)
    if total.sum() >= MOST_RESAMPLED:
        raise ContractError(f"{total.sum():,} rows are more than can be dealt anew; count a sample of fewer than "
                            f"{MOST_RESAMPLED:,}")
    dealt = np.random.default_rng(seed).multivariate_hypergeometric(total, int(other.sum()), resamples, "marginals")
    found = float(statistic(one, other))
    return DriftResult(test, found, _rank(found, statistic((total - dealt).astype(float), dealt.astype(float))),
                       f"permutation, {resamples} resamples", _largest_move(one, other), int(one.sum()),
                       int(other.sum()))


def _rank(found: float, resampled: Floats) -> float:
    """Return the permutation p-value; the sample itself is one of the permutations (Phipson and Smyth 2010)."""
    slack = 1e-9 * abs(found) + 1e-14  # equal tables may differ in the last digits
    return float((1 + np.count_nonzero(resampled >= found - slack)) / (1 + len(resampled)))


def _largest_move(one: Floats, other: Floats) -> str:
    p, q = one / one.sum(), other / other.sum()
    most = int(np.abs(q - p).argmax())
    return f"class {most}: {p[most]:.1%} before, {q[most]:.1%} now"


def _check_resamples(resamples: int) -> None:
    if resamples < 19:
        raise ConfigError(f"resamples={resamples} cannot show p <= 0.05; give at least 19, for example {RESAMPLES}")


def _tables(reference: npt.ArrayLike, current: npt.ArrayLike) -> tuple[Floats, Floats]:
    one, other = numbers("reference", reference), numbers("current", current)
    if one.ndim != 1 or one.shape != other.shape:
        raise ContractError(f"counts of shape {one.shape} and {other.shape} cannot be compared; give one count for "
                            "each class, of the same classes in both")
    for name, part in (("reference", one), ("current", other)):
        broken = ~(np.isfinite(part) & (part >= 0) & (part == np.floor(part)))
        if broken.any():
            raise ContractError(f"{name} holds {part[broken][0]:g}, which is no count; give whole numbers, not shares")
        if not part.sum():
            raise ContractError(f"{name} has no rows; wait for some")
    return one, other


def _sample(name: str, values: npt.ArrayLike, dimensions: int) -> Floats:
    found = numbers(name, values)
    found = found[:, None] if dimensions == 2 and found.ndim == 1 else found
    if found.ndim != dimensions:
        raise ContractError(f"{name} has {found.ndim} dimensions; give {dimensions}")
    if not found.size:
        raise ContractError(f"{name} is empty; wait for rows")
    if not np.isfinite(found).all():
        raise ContractError(f"{name} holds {np.count_nonzero(~np.isfinite(found))} values that are NaN or infinite; "
                            "leave them out, and test their share as a rate")
    return found
