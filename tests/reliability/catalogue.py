"""Failures of such kernels as they happened elsewhere, and the tests that hold each of them.

Test names are ``file::function``, files relative to tests/. ``GPU`` lists those that need a CUDA
device and are skipped, with that reason, where there is none.
"""

OPS = "ops/test_"
OWN = "reliability/test_"
ADVERSARIES = f"{OPS}adversaries.py::test_"
BEHAVIOUR = f"{OPS}behaviour.py::test_"
CITIZENSHIP = f"{OPS}citizenship.py::test_"
DECODE = f"{OPS}decode.py::test_"
SHIPPED = f"{OPS}shipped.py::test_"
TEXT = f"{OPS}kernel_text.py::test_"
PACKED = f"{OPS}packed.py::test_"
VALUES = f"{OWN}hard_values.py::test_"
ENDS = f"{OWN}sequence_ends.py::test_"
CALLS = f"{OWN}call_arguments.py::test_"
ACCESSES = f"{OWN}kernel_accesses.py::test_"
IDIOMS = f"{OWN}kernel_idioms.py::test_"
GROUPS = f"{OWN}grouped_heads.py::test_"
PROPERTIES = f"{OWN}op_properties.py::test_"
NEUTRAL = f"{OWN}neutral_elements.py::test_"
CUDA = f"{OWN}on_a_gpu.py::test_"

CATALOGUE: dict[str, tuple[str, ...]] = {
    # numerics
    "R01": (  # NaN from exp(g_i - g_j) in the half that is masked
        f"{SHIPPED}float32_adversaries",
        f"{VALUES}every_decay_costs_what_it_costs_the_token_loop",
        f"{TEXT}masks_come_before_exponentials",
        f"{TEXT}pairs_of_points_are_masked",
    ),
    # a guard against NaN changes what a gate of 1 gives
    "R02": (
        f"{VALUES}a_gate_of_one_is_no_gate",
        f"{NEUTRAL}a_log_decay_of_zero_is_none",
        f"{CALLS}an_absent_tensor_is_its_default",
    ),
    # the backward of an absent optional tensor
    "R03": (f"{CALLS}an_absent_tensor_is_its_default", f"{SHIPPED}fewer_heads_and_defaults"),
    # exp(G_i) exp(-G_j) overflows
    "R04": (
        f"{VALUES}every_decay_costs_what_it_costs_the_token_loop",
        f"{IDIOMS}no_kernel_says",
    ),
    # R04 comes back as an optimisation
    "R05": (f"{IDIOMS}no_kernel_says", f"{IDIOMS}the_rules_find_what_they_are_for"),
    # a decay of exactly 0
    "R06": (
        f"{ADVERSARIES}decays",
        f"{ADVERSARIES}no_gate_is_no_nan",
        f"{NEUTRAL}a_decay_of_zero_starts_anew",
        f"{VALUES}every_decay_costs_what_it_costs_the_token_loop",
    ),
    # digits lost after a hard gate
    "R07": (
        f"{ADVERSARIES}decays",
        f"{VALUES}every_decay_costs_what_it_costs_the_token_loop",
    ),
    # constant strong decays
    "R08": (
        f"{ADVERSARIES}decays",
        f"{VALUES}every_decay_costs_what_it_costs_the_token_loop",
    ),
    # the sum of a suffix as total minus prefix
    "R09": (
        f"{IDIOMS}no_kernel_says",
        f"{IDIOMS}running_sums_of_gradients_run_backward",
        f"{IDIOMS}the_sum_of_a_suffix_keeps_its_digits",
    ),
    # gradients of gates rounded to bfloat16 on their way
    "R10": (f"{SHIPPED}half_precision",),
    # wrong at one chunk or tile alone
    "R11": (
        f"{CUDA}every_configuration",
        f"{BEHAVIOUR}chunk_sizes_agree",
        f"{ACCESSES}tiles_smaller_than_a_head",
    ),
    # noise in the first token's gate gradient
    "R12": (f"{VALUES}the_gate_of_the_first_token_has_no_gradient_without_a_state",),
    # a value stored narrower than it should be
    "R13": (f"{IDIOMS}no_kernel_says", f"{SHIPPED}half_precision"),
    # a state carried in 16 bits drifts
    "R14": (
        f"{ADVERSARIES}long_sequence",
        f"{SHIPPED}half_precision",
        f"{DECODE}the_drift_of_ten_thousand_tokens",
    ),
    # the range of float16
    "R15": (
        f"{VALUES}a_state_beyond_the_range_of_float16",
        f"{VALUES}a_state_gradient_below_the_range_of_float16",
    ),
    # a triangular solve in low precision
    "R16": (
        f"{ADVERSARIES}collinear_keys",
        f"{ADVERSARIES}collinear_keys_in_kernels",
        f"{IDIOMS}the_triangular_solve_is_in_full_precision",
    ),
    # keys that are not normalised
    "R17": (f"{VALUES}keys_that_are_not_normalised",),
    # the backward of a norm at rows of zeros
    "R18": (f"{SHIPPED}float32_adversaries", f"{VALUES}nothing_but_zeros"),
    # activations and their thresholds
    "R19": (
        "emit/test_token_torch.py::test_log_sigmoid_and_softplus_are_stable",
        "emit/test_token_torch.py::test_random_expressions",
        "emit/test_recurrent_triton.py::test_one_expression",
        f"{ENDS}neighbours_do_not_matter",
    ),
    # 0 / 0 in a normaliser, a sum over the wrong axis
    "R20": (f"{VALUES}nothing_but_zeros", f"{PROPERTIES}orders_of_batch_and_heads"),
    # shapes and bounds
    "R21": (  # lengths that fill no chunk
        f"{SHIPPED}float32_lengths",
        f"{ENDS}every_length_around_a_chunk",
        f"{ENDS}lengths_of_a_sequence_alone",
    ),
    # one token, or a few
    "R22": (f"{ENDS}every_length_around_a_chunk", f"{ENDS}lengths_of_a_sequence_alone"),
    # no token at all
    "R23": (f"{BEHAVIOUR}no_token_at_all", f"{ENDS}packed_sequences_without_a_token"),
    # empty sequences among others
    "R24": (
        f"{PACKED}packed_sequences_are_separate_ones",
        f"{PROPERTIES}packed_sequences_in_any_order",
    ),
    # memory that nothing wrote
    "R25": (
        f"{BEHAVIOUR}uninitialised_memory_is_never_read",
        f"{ENDS}neighbours_do_not_matter",
        f"{ENDS}offsets_that_do_not_fit_every_op",
    ),
    # padding changes the state
    "R26": (f"{ENDS}padding_on_the_right", f"{NEUTRAL}tokens_of_zeros_do_nothing"),
    # neighbours leak into a sequence
    "R27": (
        f"{PACKED}packed_sequences_are_separate_ones",
        f"{ENDS}neighbours_do_not_matter",
        f"{PROPERTIES}what_comes_before_a_start_does_not_matter",
    ),
    # offsets that do not fit, or are changed
    "R28": (
        f"{ENDS}offsets_that_do_not_fit_every_op",
        f"{ENDS}one_batch_entry_with_offsets",
        f"{ENDS}offsets_of_either_width_and_never_changed",
    ),
    # the width of offsets; the host waits
    "R29": (
        f"{ENDS}offsets_of_either_width_and_never_changed",
        f"{CUDA}packed_sequences_do_not_wait_for_the_device",
    ),
    # sizes that are no powers of two
    "R30": (
        f"{OPS}sizes.py::test_sizes",
        f"{OPS}sizes.py::test_256",
        f"{OPS}sizes.py::test_all_sizes",
        f"{ACCESSES}accesses_stay_inside_and_stores_are_single",
        f"{PROPERTIES}chunks_loop_and_steps_are_one_function",
    ),
    # K and V mixed up
    "R31": (f"{OPS}sizes.py::test_sizes", f"{ACCESSES}tiles_smaller_than_a_head"),
    # values shared out where a sum needs all of them
    "R32": (f"{ACCESSES}tiles_smaller_than_a_head",),
    # several programs write one address
    "R33": (
        f"{ACCESSES}accesses_stay_inside_and_stores_are_single",
        f"{ACCESSES}the_log_finds_what_it_is_for",
    ),
    # too much shared memory
    "R34": (
        "compile/test_defaults.py::test_kernels_compile_as_recorded",
        "compile/test_defaults.py::test_kernels_fit",
    ),
    # a slip that a linter finds
    "R35": (
        "project/test_lint.py::test_ruff_finds_nothing",
        "project/test_lint.py::test_the_types_agree",
        "emit/test_op_package.py::test_text_is_formatted_and_clean",
    ),
    # accesses past the end
    "R36": (
        f"{ACCESSES}accesses_stay_inside_and_stores_are_single",
        f"{ACCESSES}accesses_of_the_other_schedules",
        f"{CUDA}each_kernel_keeps_to_its_memory",
        f"{CUDA}the_sanitizer_finds_nothing",
    ),
    # the offset of a head or of a batch entry
    "R37": (f"{CALLS}a_head_reads_no_other", f"{PROPERTIES}orders_of_batch_and_heads"),
    # pointers and groups
    "R38": (
        f"{CALLS}every_layout_gives_the_same_bits",
        f"{CALLS}kernels_take_shifted_windows",
        f"{GROUPS}groups_of_two_and_four",
    ),
    # size limits
    "R39": (  # offsets beyond 2^31
        f"{ACCESSES}offsets_beyond_two_to_the_31",
        f"{ACCESSES}the_log_finds_what_it_is_for",
        f"{CUDA}more_elements_than_an_int32",
    ),
    # cast after the product
    "R40": (
        f"{TEXT}offsets_are_wide_before_they_are_multiplied",
        f"{ACCESSES}offsets_beyond_two_to_the_31",
    ),
    # a grid's axis beyond 65,535
    "R41": (
        f"{TEXT}grids_have_one_axis",
        f"{TEXT}first_axis_of_the_grid_alone_grows_with_the_call",
        f"{CUDA}more_programs_than_65535",
    ),
    # very many tokens
    "R42": (f"{CUDA}a_million_tokens",),
    # layout, aliasing, state
    "R43": (  # tensors and gradients that are not contiguous
        f"{CALLS}every_layout_gives_the_same_bits",
        f"{BEHAVIOUR}layout_of_tensors_and_gradients",
        f"{BEHAVIOUR}expanded_gradients",
    ),
    # arguments changed in place; every evaluation of the harness compares them
    "R44": (
        f"{BEHAVIOUR}arguments_stay_as_they_are",
        f"{SHIPPED}float32_lengths",
        f"{CITIZENSHIP}opcheck",
    ),
    # pointers that are not aligned
    "R45": (f"{CUDA}storage_offsets_of_one_element", f"{CALLS}kernels_take_shifted_windows"),
    # count and order of gradients
    "R46": (
        f"{CALLS}each_gradient_alone",
        f"{CALLS}gradients_against_differences_of_every_op",
    ),
    # the initial state and its gradient
    "R47": (
        f"{BEHAVIOUR}no_state_is_a_zero_state",
        f"{ENDS}a_final_state_without_a_gradient",
        f"{ENDS}gradients_of_an_initial_state_of_zeros",
    ),
    # tests that avoid the corners
    "R48": (
        "verify/test_inputs.py::test_domain_ends_only",
        "verify/test_inputs.py::test_promises_are_kept",
        f"{SHIPPED}float32_adversaries",
    ),
    # a helper that knows one chunk size
    "R50": (
        f"{BEHAVIOUR}chunk_sizes_agree_in_float64",
        f"{BEHAVIOUR}chunk_sizes_agree",
        f"{NEUTRAL}any_chunk_gives_the_same",
    ),
    # a scale of 0 taken for none
    "R51": (f"{VALUES}scales", f"{VALUES}no_scale_is_the_default"),
    # a pool of states
    "R49": (
        f"{DECODE}a_pool_is_read_and_written_at_its_slots",
        f"{DECODE}a_narrow_pool_of_values_first_with_gaps_between_slots",
    ),
    # frameworks
    "R52": (  # torch.compile
        f"{CITIZENSHIP}compiled_whole",
        f"{CITIZENSHIP}opcheck",
        f"{CITIZENSHIP}at_most_two_compilations_over_twenty_lengths",
        f"{CALLS}compiled_without_a_break",
        f"{OPS}traced_step.py::test_a_compiled_loop_is_the_eager_one",
        f"{CUDA}kernels_are_compiled_once_for_all_lengths",
    ),
    # CUDA graphs
    "R53": (f"{CUDA}a_graph_replayed_with_other_inputs",),
    # autocast
    "R54": (f"{CALLS}autocast_and_checkpoints", f"{CITIZENSHIP}autocast_changes_nothing"),
    # the device of the tensors
    "R55": (
        f"{CUDA}the_device_is_that_of_the_tensors",
        f"{OPS}wrapper.py::test_kernels_are_launched_on_the_device_of_the_tensors",
    ),
    # tensors of a shape alone
    "R56": (f"{CALLS}shapes_without_values", f"{CITIZENSHIP}meta_and_fake_tensors"),
    # checkpoints, and saved tensors used twice
    "R57": (
        f"{CALLS}autocast_and_checkpoints",
        f"{CITIZENSHIP}checkpoint",
        f"{BEHAVIOUR}backward_twice",
    ),
    # a backward of another forward
    "R58": (
        f"{CALLS}a_forward_for_a_backward_is_the_same_forward",
        f"{CALLS}autocast_and_checkpoints",
    ),
}

GPU = (
    "every_configuration",
    "packed_sequences_do_not_wait_for_the_device",
    "each_kernel_keeps_to_its_memory",
    "the_sanitizer_finds_nothing",
    "more_elements_than_an_int32",
    "more_programs_than_65535",
    "a_million_tokens",
    "storage_offsets_of_one_element",
    "a_graph_replayed_with_other_inputs",
    "the_device_is_that_of_the_tensors",
    "kernels_are_compiled_once_for_all_lengths",
)
