//! The forecasts of this process: one for each organization that is asked about, made by
//! one of those who ask at the same time, and kept for a second at most.
//!
//! One that is quickly made is made anew sooner, so that in a small queue nobody reads
//! what was true a second ago; however many ask, making it takes a small part of the time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::forecast::Forecast;
use crate::store::model::Place;
use crate::store::{Result, Store};
use proto::v1;

/// How long a forecast counts at most.
const KEPT: Duration = Duration::from_secs(1);

/// How long it counts, by how long it took to make.
const KEPT_TIMES: u32 = 50;

/// See the module. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Forecasts(Arc<Mutex<HashMap<String, Known>>>);

/// One that is being made, or was.
type Known = Arc<OnceCell<Made>>;

#[derive(Debug)]
struct Made {
    forecast: Arc<Forecast>,
    until: Instant,
}

impl Forecasts {
    /// The forecast of an organization.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn of<S: Store>(&self, store: &S, organization: &str) -> Result<Arc<Forecast>> {
        let known = self.known(organization, Instant::now());
        let made = known.get_or_try_init(|| make(store, organization)).await?;
        Ok(Arc::clone(&made.forecast))
    }

    /// Says of a pending job what is foreseen of it. A forecast that cannot be had is left
    /// out: what was asked for is there without it.
    pub async fn tell<S: Store>(&self, store: &S, view: &mut v1::JobView, place: Option<&Place>) {
        let Some(place) = place else { return };
        let forecast = match self.of(store, &view.organization).await {
            Ok(forecast) => forecast,
            Err(error) => {
                let error = crate::refusal::chain(&error);
                return tracing::warn!(error, "there is no forecast for pending jobs");
            }
        };
        let prospect = forecast.of(place);
        view.queue_position = Some(prospect.position);
        view.estimated_start_ms = prospect.start_ms;
        view.waiting_for = prospect.waiting_for;
    }

    fn known(&self, organization: &str, now: Instant) -> Known {
        // Every change is complete before the guard goes, also in a panic.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |known: &Known| known.get().is_none_or(|made| made.until > now);
        if let Some(known) = all.get(organization).filter(|known| counts(known)) {
            return Arc::clone(known);
        }
        all.retain(|_, known| counts(known));
        let new = Known::default();
        all.insert(organization.to_owned(), Arc::clone(&new));
        new
    }
}

async fn make<S: Store>(store: &S, organization: &str) -> Result<Made> {
    let begun = Instant::now();
    let outlook = store.outlook(organization.to_owned()).await?;
    let forecast = Arc::new(Forecast::new(outlook));
    let took = begun.elapsed();
    Ok(Made {
        forecast,
        until: begun + took + KEPT.min(took * KEPT_TIMES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::model::Outlook;

    #[test]
    fn a_forecast_counts_until_it_is_old_and_while_it_is_made() {
        let forecasts = Forecasts::default();
        let now = Instant::now();
        let known = forecasts.known("default", now);
        let later = now + Duration::from_secs(60);
        assert!(Arc::ptr_eq(&known, &forecasts.known("default", later)));
        let made = Made {
            forecast: Arc::new(Forecast::new(Outlook::default())),
            until: now + KEPT,
        };
        known.set(made).expect("empty");
        let shortly = now + Duration::from_millis(999);
        assert!(Arc::ptr_eq(&known, &forecasts.known("default", shortly)));
        assert!(!Arc::ptr_eq(
            &known,
            &forecasts.known("default", now + KEPT)
        ));
        assert!(forecasts.known("other", now).get().is_none());
    }
}
