//! What every store must do, written once and run on each.
//!
//! A test gets a [`world::World`]: an empty store behind a clock that moves only when
//! told to, already settled, so that nothing here waits for real time.

pub(crate) mod world;

pub(crate) mod gate;

/// Makes a `#[tokio::test]` of every rule for the store that `$open` makes: an async
/// function from a clock to a store and whatever must outlive it.
macro_rules! conformance {
    ($open:path) => {
        $crate::store::conformance::conformance!(@on $open,
            gate: [
                the_gate_opens_once_and_lengthens_the_lease,
                a_cancel_shuts_the_gate_and_travels_with_the_reply,
                a_repeated_update_changes_nothing_else,
                phases_move_forward_only,
                a_success_stands_although_canceled,
                a_pending_job_is_canceled_at_once,
                a_repeated_finish_is_answered_like_the_first,
            ],
        );
    };
    (@on $open:path, $($module:ident: [$($test:ident),* $(,)?]),* $(,)?) => {
        $(
            mod $module {
                $(
                    #[tokio::test]
                    async fn $test() {
                        let world = $crate::store::conformance::world::World::open($open).await;
                        $crate::store::conformance::$module::$test(world).await;
                    }
                )*
            }
        )*
    };
}
pub(crate) use conformance;
