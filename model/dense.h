// model/dense.h: the learners softmax (no hidden layer) and mlp (any depth): layers of W x + b.
//
// Layer i has W[out][in], then b[out], in the weights' run. Hidden layers apply the spec's
// activation and, while training, inverted dropout; the last layer gives logits or the number.
//
//   loss       classes: -log softmax(outputs)[y]; number: (output - y)^2 / 2
//   init       W uniform in +-sqrt(6 / (in + out)) (Glorot), b zero
//   dropout    a hidden unit is 0 where its draw is below the spec's dropout, else divided by
//              1 - dropout. The draw belongs to (seed, shard, list, pass, layer, rid, unit): the
//              same whatever batch the record stands in.
//
// The two learners are learner_softmax and learner_mlp of stage.h; nothing else is visible.
// Source    Glorot, Bengio, AISTATS 2010; Srivastava et al., JMLR 15, 2014 (dropout).
#pragma once

#include "model/stage.h"
