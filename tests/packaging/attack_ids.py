"""The ids of attacks on ``docs/security.md`` and ``docs/saml-attacks.md``, each with the tests that try it.

The ids of changed SAML messages are the names in ``tests/saml/attacks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

ATTACK_TESTS: Mapping[str, tuple[str, ...]] = {
    # docs/security.md: passwords
    "guessing": (
        "test_a_parallel_burst_gets_exactly_the_limit",
        "test_a_parallel_burst_of_many_processes_gets_exactly_the_limit",
        "test_two_nodes_have_one_limit",
    ),
    "guessing-spellings": (
        "test_all_spellings_of_a_name_share_their_guesses",
        "test_who_has_a_name_that_is_spelled_alike_is_not_known_for_it_and_locks_nobody_out",
    ),
    "genesys-lockout": (
        "test_failures_beyond_the_limit_do_not_reach_genesys",
        "test_what_did_not_reach_genesys_returns_the_slot_and_a_broken_connection_keeps_it",
    ),
    "account-lockout": ("test_a_guesser_elsewhere_locks_nobody_out_of_the_address_they_work_from",),
    "user-enumeration": (
        "test_unknown_user_no_password_and_wrong_password_are_one_refusal_and_one_call_each",
        "test_unknown_and_disabled_accounts_get_the_one_answer",
    ),
    "cached-credentials": (
        "test_remembered_credentials_are_no_oracle_while_the_account_is_over_its_limit",
        "test_what_is_remembered_counts_for_its_own_address_name_and_password_only",
    ),
    "changed-password": (
        "test_remembered_credentials_end_with_the_password_on_every_node",
        "test_the_account_is_read_anew_even_when_the_credentials_are_remembered",
    ),
    "outage": (
        "test_a_database_that_is_down_is_503_and_no_bad_password",
        "test_a_bug_in_a_step_is_a_500_and_never_a_user",
    ),
    # Salesforce
    "identity-url": (
        "test_an_address_of_another_form_or_host_is_rejected_unasked",
        "test_another_port_of_a_listed_host_is_rejected_unasked",
        "test_a_changed_address_is_judged_as_the_oracle_judges_it",
    ),
    "identity-redirect": (
        "test_the_session_is_never_sent_to_a_host_that_is_not_listed",
        "test_a_redirect_to_another_address_is_rejected",
    ),
    "foreign-identity": ("test_another_users_identity_is_rejected",),
    "slow-answer": (
        "test_redirects_share_one_deadline",
        "test_a_body_without_a_length_and_without_an_end_is_not_read",
    ),
    "upstream-tls": (
        "test_a_self_signed_certificate_is_refused_before_anything_is_sent",
        "test_a_certificate_of_another_host_is_refused",
    ),
    # browsers
    "csrf": (
        "test_without_both_headers_a_session_is_refused_and_basic_passes",
        "test_what_authenticated_counts_not_which_headers_are_there",
        "test_foreign_origins_are_refused_also_where_an_open_view_asks",
    ),
    "login-csrf": ("test_a_login_form_of_another_site_is_refused",),
    "cross-origin-read": (
        "test_an_origin_reads_only_the_contact_center_that_allows_it",
        "test_a_preflight_of_another_origin_gets_no_permission",
    ),
    "session-fixation": (
        "test_a_new_login_changes_the_session_id_and_ends_the_former_session",
        "test_session_id_that_was_known_before_is_worth_nothing_after",
    ),
    "stolen-cookie": (
        "test_the_id_is_256_bits_and_the_store_does_not_know_it",
        "test_who_is_revoked_on_one_node_is_refused_on_the_other_at_the_next_request",
    ),
    "cookie-over-credentials": ("test_the_browser_session_is_not_looked_at_when_headers_decide",),
    "page-injection": (
        "test_every_page_keeps_scripts_and_frames_out",
        "test_what_a_page_shows_of_an_account_is_escaped",
    ),
    "open-redirect": (
        "test_address_that_is_no_page_here_is_not_kept",
        "test_the_form_leads_nowhere_else",
        "test_address_stays_on_this_host_whatever_it_looks_like",
    ),
    "forged-host": (
        "test_host_header_builds_no_address",
        "test_a_host_header_makes_no_own_origin_beside_a_public_url",
    ),
    # several contact centers
    "foreign-contact-center": (
        "test_an_identity_of_another_contact_center_than_the_walks_is_nobody",
        "test_a_session_of_another_contact_center_is_ignored",
        "test_an_account_of_another_contact_center_is_not_linked",
    ),
    "contact-center-conflict": ("test_a_conflict_is_a_rejection_that_says_between_whom",),
    "foreign-application": ("test_two_applications_on_one_store_never_accept_each_others_sessions",),
    # mistakes in the application
    "unmarked-view": (
        "test_every_endpoint_is_protected_unless_it_says_otherwise",
        "test_a_view_that_handles_options_itself_is_protected",
    ),
    "hidden-mark": ("test_a_mark_hidden_by_a_careless_wrapper_still_refuses",),
    "login-manager": (
        "test_login_disabled_is_refused_outside_testing",
        "test_a_manager_attached_later_is_an_error_at_the_first_request",
    ),
    "leaked-secret": (
        "test_a_secret_does_not_show",
        "test_neither_repr_nor_error_shows_a_secret",
        "test_credentials_do_not_show_in_a_repr",
        "test_what_a_log_may_hold_is_visible_and_bounded",
    ),
    # docs/saml-attacks.md: accepted
    "saml-unsigned-extras": (
        "test_what_changes_nothing_that_was_signed_lets_in_whom_it_was_signed_for",
        "test_the_same_around_a_changed_name_lets_nobody_in",
    ),
    "saml-second-message": ("test_a_second_message_in_the_form_or_the_query_is_never_read",),
    "saml-other-recipient-key": ("test_a_session_key_for_somebody_else_beside_ours_is_passed_over",),
    # decryption
    "saml-decryption-oracle": ("test_everything_that_fails_looks_the_same_and_goes_the_same_way",),
    "saml-decrypt-unsigned": ("test_what_nobody_has_signed_has_nothing_decrypted",),
    "saml-old-decryption-key": ("test_either_key_decrypts_while_ours_rolls_over_and_the_old_one_no_more_after",),
    # logins
    "saml-replay": ("test_same_message_is_refused_a_second_time_whoever_brings_it",),
    "saml-parallel-replay": (
        "test_of_fifty_posts_of_one_response_one_gets_a_code_and_of_twenty_with_that_code_one_logs_in",
    ),
    "saml-second-answer": ("test_request_is_answered_once",),
    "saml-code-reuse": (
        "test_code_is_good_once",
        "test_other_browser_is_refused_and_burns_the_code",
    ),
    "saml-login-csrf": ("test_nobody_is_logged_in_by_an_answer_to_somebody_elses_login",),
    "saml-unsolicited": (
        "test_nobody_is_let_in_unasked_where_it_is_not_allowed",
        "test_only_our_own_page_can_agree",
    ),
    "saml-unsolicited-replay": ("test_replay_is_refused_in_this_browser_and_in_another",),
    "saml-provider-mix-up": (
        "test_answer_of_another_provider_is_refused_though_its_key_is_the_same",
        "test_answer_signed_by_another_provider_is_refused",
        "test_answer_to_the_request_of_another_provider_is_refused",
    ),
    "saml-foreign-contact-center": (
        "test_provider_of_one_contact_center_says_nothing_at_another",
        "test_code_of_one_contact_center_is_refused_at_another",
    ),
    "saml-folded-name": (
        "test_nobody_is_linked_to_an_account_whose_name_is_theirs_by_folding_alone",
        "test_provider_speaks_only_for_the_listed_email_domains",
    ),
    "saml-old-authentication": ("test_authentication_that_is_older_than_the_wish_for_a_new_one_is_refused",),
    "saml-authn-context": ("test_only_a_context_that_was_asked_for_is_accepted",),
    "saml-session-fixation": ("test_session_id_that_was_known_before_is_worth_nothing_after",),
    "saml-open-redirect": (
        "test_address_that_is_no_page_here_is_not_kept",
        "test_relay_state_is_an_address_only_if_it_is_one_of_ours",
    ),
    "saml-markup": (
        "test_no_parameter_ever_becomes_markup",
        "test_name_on_the_page_is_text",
    ),
    "saml-login-hint": ("test_login_hint_arrives_as_it_is_and_changes_nothing_else",),
    "saml-forged-host": (
        "test_host_header_builds_no_address",
        "test_forged_forwarding_changes_no_address",
    ),
    "saml-log-injection": ("test_log_carries_no_control_characters_and_no_secrets",),
    "saml-login-flood": ("test_one_address_begins_only_so_many_logins_that_nobody_finishes",),
    # logouts
    "slo-wrong-request": (
        "test_a_request_that_is_wrong_is_refused",
        "test_wrong_request_is_refused_and_ends_nobody",
    ),
    "slo-forged-request": (
        "test_somebody_elses_key_is_refused",
        "test_changed_content_is_refused",
        "test_wrapping_is_refused",
    ),
    "slo-replay": (
        "test_a_request_counts_once",
        "test_replayed_request_is_refused",
    ),
    "slo-foreign-user": (
        "test_word_about_somebody_else_succeeds_and_ends_nobody",
        "test_word_to_one_contact_center_ends_nobody_in_another",
    ),
    "slo-ambiguous-query": ("test_queries_that_could_be_read_in_two_ways_are_refused",),
    "slo-inner-signature": ("test_a_signature_inside_is_none_for_a_query",),
    "slo-inflate-bomb": ("test_what_does_not_inflate_or_never_ends_is_refused",),
    "slo-unsolicited-answer": ("test_answer_is_taken_once_and_only_to_what_was_asked",),
    "slo-late-login": (
        "test_login_on_its_way_ends_with_the_provider_s_session",
        "test_request_at_the_very_moment_leaves_no_session",
        "test_question_is_no_way_around_it",
    ),
    "slo-long-relay-state": ("test_relay_state_is_handed_back_up_to_its_limit",),
    "slo-cookie-overwrite": ("test_answers_to_another_site_do_not_replace_the_session",),
    "slo-unreachable-provider": ("test_provider_that_cannot_be_known_stops_no_other",),
    "slo-markup": ("test_names_and_indexes_stay_text_in_what_we_send",),
    "slo-csrf": ("test_other_site_cannot_log_somebody_out",),
    # metadata
    "metadata-signature": (
        "test_what_the_pinned_key_has_not_signed_is_refused",
        "test_another_signer_is_refused_whatever_certificate_comes_along",
    ),
    "metadata-expired": (
        "test_metadata_past_valid_until_are_refused_wherever_it_stands",
        "test_expired_metadata_are_refused_when_read_and_asked_for_anew_when_they_expire",
    ),
    "metadata-replay": ("test_metadata_by_plain_http_must_end_lest_old_ones_be_played_back_for_ever",),
    "metadata-not-a-document": (
        "test_answer_that_is_no_document_is_refused",
        "test_slow_answer_ends_by_the_deadline",
    ),
    "metadata-script-endpoint": ("test_endpoint_that_runs_a_script_is_refused",),
    "metadata-nested-entity": ("test_what_stands_in_extensions_is_no_entity",),
    "metadata-log-injection": ("test_text_out_of_the_document_is_fit_for_a_log",),
    "metadata-removed-key": (
        "test_message_signed_with_a_removed_key_is_refused_without_a_restart",
        "test_node_without_requests_looks_before_it_trusts_a_key_again",
    ),
    "metadata-stale-answer": ("test_answer_that_came_late_does_not_replace_a_newer_one",),
    # mutants
    "mutants-login": ("test_mutant_is_let_in_only_as_whom_the_provider_signed_for",),
    "mutants-weaker-verifier": ("test_the_same_mutants_catch_a_weaker_verifier",),
    "mutants-logout": (
        "test_mutant_of_a_form_ends_nothing_but_what_the_provider_has_named",
        "test_mutant_behind_a_query_is_refused_if_the_provider_has_not_signed_it",
        "test_whatever_the_provider_has_signed_behind_a_query_is_taken_or_refused",
        "test_mutant_of_the_query_itself_is_the_genuine_request_or_none",
    ),
}
