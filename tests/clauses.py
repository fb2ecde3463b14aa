"""Every clause of SPEC.md that contains MUST, and the tests that would fail if it were broken.

`tests/test_house.py` fails when a MUST clause is missing here, when a clause here is none, and when
a test named here does not exist.
"""

CODES = "tests/tensor/test_codes.py::"
FILL = "tests/tensor/test_fill.py::"
CONTENT = "tests/tensor/test_content.py::"
REFUSALS = "tests/tensor/test_encode_refusals.py::"
MESSAGES = "tests/tensor/test_encode_messages.py::"
ROUNDTRIP = "tests/tensor/test_roundtrip.py::"
WIDTH = "tests/tensor/test_every_width.py::test_twins_agree_and_round_trip"
HEADER = "tests/container/test_header.py::"
METADATA = "tests/container/test_metadata.py::"
ORDER = "tests/container/test_order.py::"
READER = "tests/container/test_reader.py::"
WRITER = "tests/container/test_writer.py::"
SHARDS = "tests/container/test_shards.py::"
DAMAGE = "tests/container/test_damage.py::"
FUZZ = "tests/test_fuzz.py::test_mutated_files_end_in_a_code_or_the_right_matrices"

DOTS = "tests/numerics/test_dots.py::"
SPECIAL = "tests/numerics/test_special.py::"
FUNCTIONS = "tests/numerics/test_functions.py::"
ROPE = "tests/numerics/test_rope.py::"

CLAUSES: dict[str, list[str]] = {
    "1.9": [ORDER + "test_read_refuses_one_fault_with_its_code", FUZZ],
    "1.10": [ORDER + "test_read_names_the_earlier_of_two_faults"],
    "1.11": [ROUNDTRIP + "test_encode_and_decode_agree_over_every_width", WIDTH],
    "1.12": [REFUSALS + "test_encode_refuses"],
    "1.13": [WRITER + "test_save_refuses_weights_whose_parts_are_wrong"],
    "2.1": [ROUNDTRIP + "test_encode_and_decode_agree_over_unnamed_patterns"],
    "2.3": [FILL + "test_encode_fills_with_the_lowest_unused_columns"],
    "2.8": [CODES + "test_decode_refuses_every_code_out_of_range"],
    "2.10": [CODES + "test_pack_is_one_little_endian_number_a_row"],
    "2.11": [
        CODES + "test_encode_gives_rows_of_the_bytes_in_annex_a",
        ORDER + "test_read_refuses_one_fault_with_its_code",
    ],
    "3.1": [METADATA + "test_read_refuses_bad_metadata"],
    "3.3": [ORDER + "test_read_refuses_one_fault_with_its_code"],
    "3.5": [ORDER + "test_read_refuses_one_fault_with_its_code"],
    "3.6": [CONTENT + "test_decode_refuses_one_fault_with_its_code"],
    "3.8": [CONTENT + "test_decode_refuses_one_fault_with_its_code"],
    "3.9": [FILL + "test_encode_fills_with_the_lowest_unused_columns"],
    "3.14": [ROUNDTRIP + "test_encode_stores_special_elements_unchanged"],
    "3.15": [REFUSALS + "test_encode_refuses"],
    "3.16": [REFUSALS + "test_encode_refuses"],
    "3.17": [REFUSALS + "test_encode_refuses"],
    "3.18": [REFUSALS + "test_encode_refuses"],
    "3.19": [REFUSALS + "test_encode_refuses"],
    "3.20": [MESSAGES + "test_encode_checks_all_shapes_then_all_dtypes_then_the_scale"],
    "4.1": [METADATA + "test_read_refuses_bad_metadata"],
    "4.2": [ROUNDTRIP + "test_encode_and_decode_agree_over_every_kind_of_outliers"],
    "4.3": [METADATA + "test_read_refuses_bad_metadata"],
    "4.4": [ROUNDTRIP + "test_encode_and_decode_agree_over_every_kind_of_outliers"],
    "4.5": [CONTENT + "test_decode_refuses_one_fault_with_its_code"],
    "4.6": [CODES + "test_decode_of_a_wide_code_stores_the_mask_of_that_rank"],
    "4.7": [CONTENT + "test_decode_refuses_one_fault_with_its_code"],
    "4.9": [ROUNDTRIP + "test_encode_and_decode_agree_over_every_kind_of_outliers"],
    "4.11": [ROUNDTRIP + "test_decode_widens_all_bit_patterns_of_16_bits_exactly"],
    "4.12": [REFUSALS + "test_encode_refuses"],
    "4.13": [CONTENT + "test_decode_lets_an_outlier_slot_lie_over_base_bits_of_zero"],
    "4.14": [REFUSALS + "test_encode_refuses_too_few_free_columns_for_the_outlier_fill"],
    "5.2": [HEADER + "test_read_refuses_lengths_before_the_header"],
    "5.3": [HEADER + "test_read_refuses_a_bad_header"],
    "5.4": [HEADER + "test_read_refuses_a_bad_header"],
    "5.5": [HEADER + "test_read_refuses_a_bad_header"],
    "5.6": [HEADER + "test_read_refuses_a_bad_header"],
    "5.7": [HEADER + "test_read_refuses_a_bad_header"],
    "5.8": [HEADER + "test_read_refuses_unknown_dtypes_after_the_header_before_the_metadata"],
    "5.10": [ORDER + "test_read_refuses_one_fault_with_its_code"],
    "5.11": [ORDER + "test_read_refuses_one_fault_with_its_code"],
    "5.12": [METADATA + "test_read_refuses_bad_metadata"],
    "5.13": [METADATA + "test_read_refuses_bad_metadata"],
    "5.14": [METADATA + "test_read_refuses_bad_metadata"],
    "5.15": [METADATA + "test_read_refuses_another_major_before_what_it_does_not_know"],
    "5.16": [METADATA + "test_read_refuses_bad_metadata"],
    "5.17": [METADATA + "test_read_accepts_extensions_and_minors_without_a_change_of_values"],
    "5.18": [METADATA + "test_read_refuses_bad_metadata"],
    "5.19": [WRITER + "test_write_gives_the_same_bytes_as_the_text_of_the_specification"],
    "5.20": [DAMAGE + "test_read_refuses_changed_content_by_its_digest"],
    "5.21": [SHARDS + "test_load_refuses_a_weight_split_over_two_files"],
    "5.22": [SHARDS + "test_load_opens_no_file_outside_the_folder"],
    "5.24": [ORDER + "test_read_refuses_one_fault_with_its_code"],
    "6.1": [ORDER + "test_read_names_the_earlier_of_two_faults"],
    "6.8": [FILL + "test_warnings_tell_other_slots_and_infinities"],
    "6.10": [HEADER + "test_read_refuses_a_bad_header", FUZZ],
    "6.11": [ROUNDTRIP + "test_encode_and_decode_agree_over_every_width"],
    "6.12": [READER + "test_getitem_compares_the_digest_when_the_last_tensor_has_been_read"],
    "8.1": [
        DOTS + "test_threads_do_not_change_results",
        DOTS + "test_rows_and_tokens_together_are_rows_and_tokens_alone",
        DOTS + "test_dots_of_random_numbers_are_those_of_the_model",
        "tests/conformance/test_determinism.py::test_environments",
        "tests/model/test_llama.py::test_golden_cache_equals_prefill_to_the_bit",
        "tests/model/test_llama.py::test_golden_batch_equals_one_by_one_to_the_bit",
    ],
    "8.3": [
        DOTS + "test_zero_weights_make_no_terms_whatever_x_is_there",
        DOTS + "test_columns_outside_a_restriction_make_no_terms",
        DOTS + "test_a_dot_without_terms_is_zero",
        SPECIAL + "test_special_values_decide_a_dot_in_either_order",
    ],
    "8.4": [
        DOTS + "test_matmul_gives_canonical_results",
        SPECIAL + "test_dots_of_special_values_are_those_of_the_model",
    ],
    "8.17": [
        "tests/numerics/test_exp_exhaustive.py::test_exp_is_correctly_rounded_for_all_inputs",
        FUNCTIONS + "test_exp_is_correctly_rounded_at_its_boundaries",
        FUNCTIONS + "test_exp_is_correctly_rounded_at_random",
    ],
    "8.23": [
        ROPE + "test_tables_are_correctly_rounded",
        ROPE + "test_tables_are_rounded_once",
        ROPE + "test_digests_are_those_of_8_23",
    ],
    "9.2": [METADATA + "test_read_accepts_extensions_and_minors_without_a_change_of_values"],
    "9.3": [WRITER + "test_write_gives_the_same_bytes_as_the_text_of_the_specification"],
    "10.1": [DAMAGE + "test_read_answers_alike_for_patched_parts_with_a_digest_that_fits", FUZZ],
}
