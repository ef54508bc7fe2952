//! Draws what a simulation is fed with: the gaps between arrivals, and how long each job takes.

use tenfold::policy::SplitMix64;

/// Virtual time and its lengths, in nanoseconds. One mean service time is [`SERVICE`].
pub(crate) type Nanos = u64;

/// The mean service time, S: the unit in which waits are told. A second, so that rounding to
/// nanoseconds is far below every number we print.
pub(crate) const SERVICE: Nanos = 1_000_000_000;

/// How service times spread, by their squared coefficient of variation, C².
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spread {
    /// C² = 1. What Erlang's formula is for.
    Exponential,
    /// Any other C². Log-normal: measured page times have that long right side.
    LogNormal(f64),
}

impl Spread {
    /// The spread with this C².
    pub(crate) fn of(c2: f64) -> Self {
        if c2 == 1.0 { Self::Exponential } else { Self::LogNormal(c2) }
    }

    /// C².
    pub(crate) fn c2(self) -> f64 {
        match self {
            Self::Exponential => 1.0,
            Self::LogNormal(c2) => c2,
        }
    }

    /// A service time whose mean is `mean`.
    pub(crate) fn draw(self, random: &mut SplitMix64, mean: Nanos) -> Nanos {
        let factor = match self {
            Self::Exponential => exponential(random),
            Self::LogNormal(c2) => {
                // With variance ln(1 + C²) the mean of the exponential is 1 at minus half of it.
                let variance = c2.ln_1p();
                (variance.sqrt() * normal(random) - variance / 2.0).exp()
            }
        };
        (factor * mean as f64) as Nanos
    }
}

/// The gap to the next arrival of a Poisson stream with `rate` arrivals per [`SERVICE`].
pub(crate) fn gap(random: &mut SplitMix64, rate: f64) -> Nanos {
    (exponential(random) / rate * SERVICE as f64) as Nanos
}

/// Exponential with mean 1.
pub(crate) fn exponential(random: &mut SplitMix64) -> f64 {
    // unit() may be 0 and is never 1, so the logarithm is finite.
    -(1.0 - random.unit()).ln()
}

/// Normal with mean 0 and variance 1 (Box and Muller).
fn normal(random: &mut SplitMix64) -> f64 {
    let radius = (2.0 * exponential(random)).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_times_have_the_mean_and_the_spread_they_are_named_by() {
        for c2 in [0.3, 1.0, 4.0] {
            let mut random = SplitMix64::new(3);
            let count = 400_000;
            let times: Vec<f64> = (0..count)
                .map(|_| Spread::of(c2).draw(&mut random, SERVICE) as f64 / SERVICE as f64)
                .collect();
            let mean = times.iter().sum::<f64>() / f64::from(count);
            let variance = times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / f64::from(count);
            assert!((mean - 1.0).abs() < 0.02, "mean {mean} for C² {c2}");
            // The fourth moment of the widest one is large, hence the wide bound.
            assert!((variance / c2 - 1.0).abs() < 0.1, "variance {variance} for C² {c2}");
        }
    }
}
