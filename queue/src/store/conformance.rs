//! What every store must do, written once and run on each.
//!
//! A test gets a [`world::World`]: an empty store behind a clock that moves only when
//! told to, already settled, so that nothing here waits for real time.

pub(crate) mod world;

pub(crate) mod audit;
pub(crate) mod blobs;
pub(crate) mod brought;
pub(crate) mod builds;
pub(crate) mod credentials;
pub(crate) mod deadlines;
pub(crate) mod doubts;
pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod forecasts;
pub(crate) mod gate;
pub(crate) mod handing_out;
pub(crate) mod late;
pub(crate) mod limits;
pub(crate) mod losses;
pub(crate) mod many;
pub(crate) mod output;
pub(crate) mod pruning;
pub(crate) mod races;
pub(crate) mod random;
pub(crate) mod side_by_side;
pub(crate) mod states;
pub(crate) mod templates;
pub(crate) mod together;
pub(crate) mod unary;
pub(crate) mod unclaimed;

/// Makes a `#[tokio::test]` of every rule for the store that `$open` makes: an async
/// function from a clock to a store and whatever must outlive it, or nothing where that
/// database is not installed.
macro_rules! conformance {
    ($open:path) => {
        $crate::store::conformance::conformance!(@on $open,
            audit: [
                whoever_changes_accounts_is_noted,
                whoever_changes_templates_is_noted,
                whoever_changes_a_workspace_is_noted,
                whoever_adopts_a_state_is_noted,
                what_was_not_done_leaves_no_line,
                the_verdict_on_a_job_says_who_gave_it,
                the_log_is_read_page_by_page_and_organization_by_organization,
                the_log_is_searched_by_time_actor_call_and_object,
            ],
            blobs: [
                only_old_blobs_that_nothing_names_are_swept,
                a_blob_that_is_put_again_is_young_again,
                the_state_of_an_unclaimed_finish_is_kept,
                a_blob_is_held_only_by_who_put_it,
                a_put_of_what_others_put_looks_like_any_other,
                a_daemon_names_only_what_it_put_for_that_lease,
                what_a_key_stores_for_unknown_leases_is_bounded,
                another_daemons_lease_is_no_lease,
                claims_are_forgotten_with_their_age,
            ],
            brought: [
                the_state_that_a_finish_brings_is_the_workspaces,
                the_state_of_a_late_finish_comes_too,
                a_state_that_came_packed_is_read_whole,
                a_stranger_brings_within_its_keys_allowance,
            ],
            builds: [
                a_create_makes_workspace_build_and_job_at_once,
                a_second_build_is_refused_while_one_runs,
                a_build_in_between_makes_the_submit_fail,
                parameters_carry_to_the_next_base,
                a_deleted_workspace_frees_its_name,
                a_failed_delete_deletes_nothing,
                unconfirmed_resources_refuse_a_delete_without_forget,
                a_retry_builds_again_with_the_same_parameters,
                two_workspaces_of_one_owner_cannot_share_a_name,
            ],
            credentials: [
                keys_are_found_by_hash_and_gone_when_deleted,
                tokens_are_found_by_hash_and_gone_when_deleted,
                the_default_organization_is_there_and_others_are_apart,
                an_owners_profile_is_set_whole,
            ],
            doubts: [
                what_two_lost_builds_made_at_one_address_is_remembered_twice,
                a_replacement_is_remembered_beside_the_removal_of_the_old_one,
                a_state_that_waits_is_in_the_way_of_stop_and_delete,
                an_engine_that_may_run_is_in_the_way_of_stop_and_delete,
                a_state_that_comes_after_the_delete_is_seen_and_brings_the_workspace_back,
                a_state_that_comes_after_the_delete_can_be_discarded,
                what_a_plan_intended_is_in_doubt_when_nothing_more_was_heard,
                a_late_report_takes_the_place_of_what_was_only_intended,
                a_late_release_settles_nothing,
                a_pushed_state_settles_what_it_shows,
                a_builds_state_settles_only_what_it_names_by_id,
                an_adopted_state_brings_what_its_build_reported,
                only_what_is_in_doubt_can_be_forgotten,
                endings_that_no_job_took_are_listed,
            ],
            deadlines: [
                a_job_that_nobody_begins_in_time_fails,
                a_job_that_was_begun_has_met_its_queue_deadline,
                a_job_that_runs_too_long_is_canceled_and_fails,
                a_person_s_cancel_after_the_deadline_is_a_cancel,
                a_job_past_its_run_deadline_that_is_lost_does_not_run_again,
                a_retry_gets_the_same_time_again,
            ],
            faults: [
                services_over_an_unreliable_store_lose_nothing,
            ],
            fleet: [
                a_second_living_instance_of_a_name_is_refused,
                a_name_is_free_again_when_its_daemon_is_gone,
                a_draining_daemon_gets_no_job_and_a_new_instance_does,
                a_daemon_that_drains_by_itself_is_seen_as_that_until_it_comes_back,
                a_drain_stands_over_restarts_until_it_is_undone,
                a_deleted_key_claims_nothing,
                a_control_stream_brings_the_cancels_that_were_missed,
                a_job_that_nobody_can_run_names_the_missing_tag,
                a_key_made_again_under_its_name_is_another_key,
                a_daemon_lives_as_long_as_the_replica_that_holds_it,
                the_end_of_an_older_control_stream_elsewhere_says_nothing,
                a_replica_hears_what_its_daemons_were_not_told,
                a_lane_stands_for_all_that_are_alike,
                every_credential_that_exists_is_listed,
            ],
            forecasts: [
                a_start_is_foreseen_from_what_ran_lately,
                who_cannot_take_the_job_now_is_no_fleet_for_it,
                asking_costs_a_few_statements_however_many_wait,
                a_submit_reads_no_fleet_and_no_queue,
                those_who_ask_at_once_share_a_forecast,
            ],
            handing_out: [
                a_job_is_handed_out_once_and_the_lease_begins_with_the_confirm,
                an_unconfirmed_offer_goes_back_after_fifteen_seconds,
                a_withdrawn_offer_cannot_be_confirmed,
                broken_streams_use_no_job_up,
                jobs_go_only_to_daemons_with_their_tags_kind_and_organization,
                a_job_begins_for_the_first_time_once,
                a_job_goes_only_to_a_daemon_that_offers_its_engine,
                interactive_goes_first_and_owners_share,
                owners_take_turns_on_a_single_slot,
                a_due_automatic_job_goes_before_whoever_has_nothing,
                the_header_carries_all_that_a_worker_needs,
                a_submit_wakes_listeners_after_it_is_durable,
                a_job_that_waits_tells_its_version_and_providers,
            ],
            limits: [
                an_owner_s_limit_holds_and_is_named,
                a_template_s_limit_counts_every_kind_of_its_jobs,
                an_import_counts_as_its_owner_s,
                a_limit_of_none_hands_nothing_out_until_it_is_lifted,
                whatever_frees_a_place_wakes_what_waits_for_it,
                the_end_of_a_job_without_limits_wakes_nobody,
                a_raised_limit_wakes_one_for_each_that_waits,
                limits_are_listed_with_what_counts_against_them,
                a_limit_of_an_unknown_template_is_refused,
                a_limit_holds_when_many_ask_at_once,
            ],
            late: [
                a_late_finish_cannot_revive_a_failed_job,
                a_late_state_follows_its_own_recovery,
                a_build_that_changed_no_state_does_not_keep_a_late_one_waiting,
                a_late_state_never_replaces_what_a_running_build_started_from,
                a_late_state_behind_another_build_waits_and_blocks_starts,
                a_finish_of_an_unknown_job_or_lease_is_kept,
            ],
            losses: [
                lost_before_the_gate_waits_again_three_times,
                lost_after_the_gate_is_failed_with_the_newest_checkpoint,
                nothing_is_lost_while_updates_come,
                nothing_is_lost_before_the_store_has_settled,
                a_lost_control_stream_ends_only_jobs_before_the_gate,
                contact_ends_the_control_grace,
                a_replica_that_goes_leaves_its_daemons_time_to_come_back,
                a_daemon_that_does_not_come_back_is_waited_for_once,
                a_new_instance_does_not_end_the_grace_of_the_old,
                an_abandoned_job_blocks_starts_until_its_lease_is_over,
                releases_for_drain_do_not_count,
            ],
            many: [
                an_acquire_among_ten_thousand_jobs_is_quick,
                an_acquire_looks_at_lanes_and_not_at_jobs,
                concurrent_acquires_never_share_a_job,
                a_list_by_status_looks_at_no_other_job,
                who_names_a_blob_looks_at_its_own_job_only,
            ],
            output: [
                lines_are_stored_once_whatever_is_repeated,
                a_hole_is_filled_and_told,
                a_hundred_thousand_lines_are_whole_and_in_order,
                lines_of_a_fenced_attempt_are_kept_and_nothing_else,
                long_lines_come_back_as_they_went_in,
                a_page_ends_at_its_limit_and_goes_on_from_there,
            ],
            pruning: [
                an_old_job_goes_with_all_that_hangs_on_it,
                a_log_that_went_is_told_from_one_that_never_was,
                a_job_that_has_not_ended_never_goes,
                a_job_whose_lease_may_still_bring_something_stays,
                the_import_of_a_version_stays_and_one_tried_before_goes,
                what_left_something_in_doubt_stays_until_that_is_settled,
                a_state_that_waits_stays_and_so_does_its_job,
                the_build_whose_resources_are_shown_stays,
                states_are_kept_by_number_or_by_age_and_the_current_one_always,
                a_checkpoint_of_a_running_build_stays,
                a_deleted_workspace_goes_whole_unless_a_state_waits,
                a_job_with_thousands_of_rows_goes_in_small_steps,
                tags_that_no_job_asks_for_go_and_come_back,
                a_daemon_that_was_away_for_long_goes,
                a_daemon_with_a_job_in_hand_stays,
                old_lines_of_the_audit_log_go_and_young_ones_stay,
                one_replica_prunes_at_a_time,
            ],
            races: [
                one_of_many_builds_begins,
                one_of_many_namesakes_is_made,
                versions_pushed_at_once_have_numbers_of_their_own,
                one_of_many_instances_gets_the_name,
                one_verdict_stands_whoever_gives_it,
            ],
            random: [
                random_commands_agree_with_a_plain_model,
                a_random_history_pruned_at_random_instants_keeps_what_is_needed,
            ],
            side_by_side: [
                a_fleet_at_once_does_what_it_does_one_by_one,
            ],
            states: [
                a_finish_replaces_the_state_its_build_started_from,
                a_push_waits_for_no_running_build_and_for_lineage_and_serial,
                a_checkpoint_is_kept_until_the_finish_brings_the_state,
                blobs_are_inserted_once_and_read_by_their_leases,
                a_state_that_was_not_uploaded_is_refused,
                adopt_and_discard_end_a_conflict,
            ],
            templates: [
                a_successful_import_becomes_active_and_a_failed_one_never,
                an_older_import_that_ends_later_does_not_take_over,
                promote_takes_only_imported_versions,
                secrets_do_not_leave_the_store_in_views,
                the_import_says_which_values_are_secret,
                a_dry_run_needs_an_imported_version,
            ],
            gate: [
                the_gate_opens_once_and_lengthens_the_lease,
                a_cancel_shuts_the_gate_and_travels_with_the_reply,
                a_repeated_update_changes_nothing_else,
                phases_move_forward_only,
                a_success_stands_although_canceled,
                a_pending_job_is_canceled_at_once,
                a_repeated_finish_is_answered_like_the_first,
            ],
            together: [
                several_get_what_they_would_get_one_by_one,
                who_is_refused_keeps_nobody_from_a_job,
                a_limit_holds_for_several_at_once,
            ],
            unclaimed: [
                endings_that_no_job_took_use_their_keys_allowance,
                the_states_of_all_unclaimed_endings_are_kept,
                a_list_of_unclaimed_endings_is_one_page,
            ],
            unary: [
                an_offer_that_was_not_confirmed_is_made_again,
                an_offer_is_made_again_to_its_daemon_only,
                an_offer_is_not_made_again_to_a_key_for_other_jobs,
                a_daemon_on_short_calls_lives_as_long_as_it_calls,
                the_end_of_a_stream_says_nothing_of_who_left_it,
                a_short_call_brings_cancels_and_drain,
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
                        if let Some(world) = world {
                            $crate::store::conformance::$module::$test(world).await;
                        }
                    }
                )*
            }
        )*
    };
}
pub(crate) use conformance;
