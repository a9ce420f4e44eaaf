// base/policy.h: the names of the rules by which the orders of a shard's slices are made.
//
// A choice of the spec (model/spec.h), carried out by scheduler/sequence.h, which says what each one
// does; neither of the two may include the other.
#pragma once

enum sequence_policy {
    SEQUENCE_ROTATION,
    SEQUENCE_RANDOM,
    SEQUENCE_BMS,
    SEQUENCE_SAMPLING,
};

// In the order of the enum.
#define SEQUENCE_POLICY_NAMES "rotation", "random", "bms", "sampling"
