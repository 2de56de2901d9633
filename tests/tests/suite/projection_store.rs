//! What every projection store must do; each backend passes in one line.

mod activity;
mod apply;
mod backends;
mod deposed;
mod digests;
mod erasures;
mod fixtures;
mod former;
mod generations;
mod histories;
mod interleavings;
mod plans;
mod scrubbing;
mod search;
mod specifics;
mod tombstones;
mod upkeep;

use backends::Backend;

/// Runs the suite on one backend. Every test gets a store of its own.
macro_rules! conformance {
    ($backend:ident) => {
        conformance! { $backend:
            apply: a_change_is_applied_is_there_already_or_leaves_a_gap,
            apply: an_overlapping_change_is_applied_whole,
            apply: a_change_applied_twice_is_applied_once,
            apply: one_batch_tells_each_change_its_own_result,
            apply: a_batch_of_many_hundreds_is_applied,
            apply: an_amended_test_keeps_its_place,
            apply: tests_of_another_patient_are_not_found,
            apply: a_stream_that_does_not_begin_with_a_registration_is_a_gap,
            apply: cursors_are_of_what_is_applied,
            interleavings: any_order_of_runs_gives_the_documents_of_one_replay,
            interleavings: two_writers_of_one_stream_at_once_lose_nothing,
            interleavings: a_test_recorded_beside_the_removal_does_not_stay,
            interleavings: the_newest_of_many_first_writers_wins,
            tombstones: a_late_writer_brings_nothing_back,
            tombstones: nothing_personal_is_left_in_a_tombstone,
            search: results_are_those_that_match,
            search: updates_show_at_once,
            search: values_are_never_operators,
            activity: a_record_written_twice_stays_once,
            activity: pages_go_back_in_time,
            activity: each_filter_alone_and_all_together_show_what_fits,
            activity: a_page_may_be_short_and_not_the_last,
            activity: values_of_filters_are_never_operators,
            activity: a_position_only_moves_forward,
            upkeep: an_office_is_taken_by_one_of_two_at_once,
            upkeep: an_office_whose_holder_is_alive_is_not_taken,
            upkeep: who_is_deposed_moves_nothing_any_more,
            upkeep: who_left_office_is_followed_at_once,
            upkeep: a_note_is_what_was_written_last,
            upkeep: parked_streams_are_listed_retried_and_forgotten,
            upkeep: books_of_a_missing_generation_are_refused,
            erasures: erasures_are_listed_by_patient,
            erasures: an_erasure_reaches_what_a_crash_left_of_a_dropped_generation,
            erasures: an_erasure_leaves_its_entry_wherever_the_cursor_is,
            erasures: rows_of_erasures_and_parked_streams_hold_no_content,
            generations: two_stores_at_once_make_one_first_generation,
            generations: a_new_generation_is_empty_and_does_not_serve,
            generations: a_serving_generation_is_not_dropped,
            generations: a_pointer_moves_by_way_of_both_generations,
            generations: a_pointer_that_is_not_as_expected_stays,
            generations: of_two_that_activate_at_once_one_does,
            generations: nothing_of_a_dropped_generation_is_left,
            generations: a_number_is_never_used_again,
            generations: two_stores_that_create_at_once_get_two_generations,
            generations: a_generation_that_does_not_exist_is_refused,
            generations: reads_of_a_generation_that_does_not_exist_are_refused,
            generations: a_store_that_was_not_replaced_confirms_its_answers,
            digests: equal_documents_have_equal_digests_whatever_the_store,
            digests: any_single_change_changes_the_digest,
            digests: an_erasure_is_part_of_the_digest,
            digests: differences_are_named_with_their_versions,
            digests: lost_and_changed_activity_is_named,
        }
    };
    ($backend:ident: $($module:ident: $test:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let stores = super::Backend::$backend.open(stringify!($test)).await;
            super::$module::$test(&stores).await;
        }
    )+};
}

mod memory {
    conformance!(Memory);
}

mod observed {
    conformance!(Observed);
}

mod sqlite {
    conformance!(Sqlite);
}

mod mongo {
    conformance!(Mongo);
}
