"""The ids of attacks on ``docs/security.md`` and ``docs/saml-attacks.md``, each with the tests that try it.

The ids of changed SAML messages are the names in ``tests/saml/attacks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

ATTACK_TESTS: Mapping[str, tuple[str, ...]] = {
    # docs/security.md: passwords
    "guessing": (
        "test_parallel_burst_gets_exactly_the_limit",
        "test_burst_of_many_processes_gets_the_limit",
        "test_two_nodes_share_one_limit",
        "test_guesses_over_changing_ports_are_throttled",
    ),
    "guessing-spellings": (
        "test_spellings_share_the_limit_per_address",
        "test_known_addresses_belong_to_the_exact_name",
    ),
    "genesys-lockout": (
        "test_failures_beyond_the_limit_do_not_reach_genesys",
        "test_only_unsent_requests_return_the_slot",
    ),
    "account-lockout": ("test_guesses_elsewhere_do_not_block_known_addresses",),
    "user-enumeration": (
        "test_unknown_user_and_wrong_password_cost_the_same",
        "test_unknown_and_disabled_accounts_get_one_answer",
    ),
    "cached-credentials": (
        "test_cached_credentials_are_throttled_over_the_limit",
        "test_cached_result_requires_same_address_name_password",
    ),
    "changed-password": (
        "test_password_change_ends_remembered_credentials_on_every_node",
        "test_account_is_read_despite_cached_credentials",
    ),
    "outage": (
        "test_database_outage_answers_503_not_401",
        "test_a_bug_in_a_step_is_500",
    ),
    # Salesforce
    "identity-url": (
        "test_unlisted_identity_host_is_never_asked",
        "test_other_port_of_a_listed_host_is_rejected",
        "test_changed_address_parses_as_the_oracle_says",
    ),
    "identity-redirect": (
        "test_session_is_never_sent_to_unlisted_hosts",
        "test_redirect_to_another_address_is_rejected",
    ),
    "foreign-identity": ("test_another_users_identity_is_rejected",),
    "slow-answer": (
        "test_redirects_share_one_deadline",
        "test_endless_body_is_refused",
    ),
    "upstream-tls": (
        "test_self_signed_certificate_is_refused_before_sending",
        "test_certificate_of_another_host_is_refused",
    ),
    # browsers
    "csrf": (
        "test_without_headers_sessions_are_refused_and_basic_passes",
        "test_the_authenticating_credentials_decide",
        "test_foreign_origins_are_refused_in_unprotected_views_too",
    ),
    "login-csrf": ("test_a_login_form_from_another_site_is_refused",),
    "cross-origin-read": (
        "test_origin_reads_only_contact_centers_allowing_it",
        "test_preflights_of_other_origins_get_no_permission",
    ),
    "session-fixation": (
        "test_a_new_login_ends_the_previous_session",
        "test_session_id_from_before_login_is_useless",
    ),
    "stolen-cookie": (
        "test_id_has_256_bits_and_is_not_stored",
        "test_revocation_on_one_node_ends_sessions_on_both",
    ),
    "cookie-over-credentials": ("test_session_is_not_read_after_a_success",),
    "page-injection": (
        "test_every_page_forbids_scripts_and_framing",
        "test_account_values_in_pages_are_escaped",
    ),
    "open-redirect": (
        "test_foreign_return_address_is_dropped",
        "test_the_form_never_redirects_elsewhere",
        "test_return_address_stays_on_this_host",
    ),
    "forged-host": (
        "test_host_header_never_builds_an_address",
        "test_host_headers_are_not_trusted_with_public_url",
    ),
    # several contact centers
    "foreign-contact-center": (
        "test_identity_of_another_contact_center_is_rejected",
        "test_session_of_another_contact_center_is_ignored",
        "test_account_of_another_contact_center_is_not_linked",
    ),
    "contact-center-conflict": ("test_conflict_is_rejected_and_names_both",),
    "foreign-application": ("test_applications_on_one_store_reject_each_others_sessions",),
    # mistakes in the application
    "unmarked-view": (
        "test_endpoints_are_protected_by_default",
        "test_a_view_that_handles_options_itself_is_protected",
    ),
    "hidden-mark": ("test_a_mark_hidden_by_a_wrapper_still_refuses",),
    "login-manager": (
        "test_login_disabled_is_refused_outside_testing",
        "test_a_manager_attached_later_is_an_error",
    ),
    "leaked-secret": (
        "test_secret_never_shows",
        "test_neither_repr_nor_error_shows_a_secret",
        "test_credentials_do_not_show_in_a_repr",
        "test_printable_text_is_visible_and_bounded",
    ),
    # docs/saml-attacks.md: accepted
    "saml-unsigned-extras": (
        "test_harmless_change_keeps_the_signed_user",
        "test_harmless_change_around_forged_name_is_refused",
    ),
    "saml-second-message": ("test_second_message_is_never_read",),
    "saml-other-recipient-key": ("test_session_key_of_another_recipient_is_ignored",),
    # decryption
    "saml-decryption-oracle": ("test_failures_of_decryption_are_indistinguishable",),
    "saml-decrypt-unsigned": ("test_unsigned_message_is_not_decrypted",),
    "saml-old-decryption-key": ("test_both_keys_decrypt_during_rollover_only",),
    # logins
    "saml-replay": ("test_replayed_message_is_refused",),
    "saml-parallel-replay": ("test_parallel_posts_give_one_code_and_one_login",),
    "saml-second-answer": ("test_request_is_answered_once",),
    "saml-code-reuse": (
        "test_code_is_used_once",
        "test_other_browser_is_refused_and_consumes_code",
    ),
    "saml-login-csrf": ("test_answer_to_another_users_login_is_refused",),
    "saml-unsolicited": (
        "test_unsolicited_login_is_refused_by_default",
        "test_only_our_own_page_can_confirm",
    ),
    "saml-unsolicited-replay": ("test_replay_is_refused_in_any_browser",),
    "saml-provider-mix-up": (
        "test_other_provider_with_same_key_is_refused",
        "test_answer_signed_by_another_provider_is_refused",
        "test_answer_to_other_providers_request_is_refused",
    ),
    "saml-foreign-contact-center": (
        "test_providers_are_separate_per_contact_center",
        "test_code_of_another_contact_center_is_refused",
    ),
    "saml-folded-name": (
        "test_folded_name_is_not_linked_to_account",
        "test_subject_outside_email_domains_is_refused",
    ),
    "saml-old-authentication": ("test_authentication_before_forced_request_is_refused",),
    "saml-authn-context": ("test_only_requested_context_is_accepted",),
    "saml-session-fixation": ("test_session_id_from_before_login_is_useless",),
    "saml-open-redirect": (
        "test_foreign_return_address_is_dropped",
        "test_relay_state_is_used_only_as_local_path",
    ),
    "saml-markup": (
        "test_no_parameter_ever_becomes_markup",
        "test_name_on_the_page_is_escaped",
    ),
    "saml-login-hint": ("test_login_hint_is_sent_escaped",),
    "saml-forged-host": (
        "test_host_header_never_builds_an_address",
        "test_forged_forwarding_changes_no_address",
    ),
    "saml-log-injection": ("test_log_carries_no_control_characters_and_no_secrets",),
    "saml-login-flood": ("test_unfinished_logins_per_address_are_limited",),
    # logouts
    "slo-wrong-request": (
        "test_wrong_logout_request_is_refused",
        "test_wrong_request_ends_no_session",
    ),
    "slo-forged-request": (
        "test_other_signing_key_is_refused",
        "test_changed_content_is_refused",
        "test_wrapping_is_refused",
    ),
    "slo-replay": (
        "test_logout_request_counts_once",
        "test_replayed_request_is_refused",
    ),
    "slo-foreign-user": (
        "test_logout_request_for_another_user_ends_nothing",
        "test_logout_request_stays_in_its_contact_center",
    ),
    "slo-ambiguous-query": ("test_ambiguous_queries_are_refused",),
    "slo-inner-signature": ("test_inner_signature_does_not_count_for_query",),
    "slo-inflate-bomb": ("test_broken_or_unbounded_deflate_is_refused",),
    "slo-unsolicited-answer": ("test_answer_counts_once_for_a_pending_request",),
    "slo-late-login": (
        "test_pending_login_ends_with_providers_session",
        "test_simultaneous_logout_leaves_no_session",
        "test_confirmation_page_respects_the_logout",
    ),
    "slo-long-relay-state": ("test_relay_state_is_returned_up_to_its_limit",),
    "slo-cookie-overwrite": ("test_cross_site_answer_keeps_the_session",),
    "slo-unreachable-provider": ("test_unavailable_provider_blocks_no_other",),
    "slo-markup": ("test_names_and_indexes_are_escaped",),
    "slo-csrf": ("test_other_site_cannot_log_out",),
    # metadata
    "metadata-signature": (
        "test_metadata_not_signed_by_pinned_key_are_refused",
        "test_other_signer_with_its_certificate_is_refused",
    ),
    "metadata-expired": (
        "test_expired_valid_until_is_refused_anywhere",
        "test_expired_metadata_are_refused_and_refreshed",
    ),
    "metadata-replay": ("test_plain_http_metadata_need_valid_until",),
    "metadata-not-a-document": (
        "test_other_http_answer_is_refused",
        "test_slow_answer_ends_by_the_deadline",
    ),
    "metadata-script-endpoint": ("test_script_endpoint_is_refused",),
    "metadata-nested-entity": ("test_entity_in_extensions_is_ignored",),
    "metadata-log-injection": ("test_text_from_the_document_is_printable",),
    "metadata-removed-key": (
        "test_message_with_removed_key_is_refused",
        "test_idle_node_refreshes_before_using_a_key",
    ),
    "metadata-stale-answer": ("test_late_answer_does_not_replace_newer_one",),
    # mutants
    "mutants-login": ("test_mutant_never_changes_the_signed_user",),
    "mutants-weaker-verifier": ("test_mutants_catch_a_weaker_verifier",),
    "mutants-logout": (
        "test_mutant_of_form_ends_only_named_sessions",
        "test_unsigned_mutant_in_query_is_refused",
        "test_signed_mutant_in_query_is_accepted_or_refused",
        "test_mutant_of_query_is_genuine_or_refused",
    ),
}
