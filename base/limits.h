// base/limits.h: every bound in one place, each with its reason.
//
// A bound that input can reach gives ERR_LIMIT or ERR_INVALID with the bound in the message.
#pragma once

enum {
    // A control frame: fits 4,000 hashed ids or 1,000 component rows; small enough that a thousand
    // hostile frames in flight are still only 256 MiB.
    LIMIT_CONTROL_BYTES = 256 * 1024,
    // A bulk frame (records, weights): large enough that per-frame cost vanishes, small enough
    // that a slow peer never holds more than LIMIT_CREDIT of them.
    LIMIT_CHUNK_BYTES = 1024 * 1024,
    LIMIT_CREDIT = 4,                              // Bulk frames in flight per stream.
    LIMIT_UNPACK_BYTES = 16 * LIMIT_CONTROL_BYTES, // Heap that one unpacked frame may take.

    // What one connection may make us keep (proto/arrears.h). What it sent that is no whole message yet, or
    // waits its turn: an upload has LIMIT_CREDIT bulk frames under way, and this is nearly twice that. What it
    // was sent and has not read: twice LIMIT_CREDIT, and what the kernel keeps of it, 4 MiB and a bit.
    // ZeroMQ takes 64 bytes for a frame without any in it: 32 times this at most where peers have no keys,
    // less than twice where they have.
    LIMIT_WAITING_BYTES = 8 * 1024 * 1024,
    LIMIT_UNREAD_BYTES = 16 * 1024 * 1024,
    // Of all of them together. Clients: LIMIT_IMPORTS_OPEN and LIMIT_BASE_UPLOADS_OPEN at full speed are 80
    // MiB, and predictions of full frames come beside them. Workers: they send when they are asked, and a
    // thousand ranks may be asked at once.
    LIMIT_WAITING_CLIENTS_MIB = 256,
    LIMIT_WAITING_WORKERS_MIB = 4096,
    LIMIT_UNREAD_CLIENTS_MIB = 512,
    // Of those that have not sent a whole message yet, so perhaps not even shown a key: a first message
    // of full size from fifty at once.
    LIMIT_WAITING_STRANGERS_MIB = 64,
    // Connections of clients; each takes some 20 KiB. Those of workers are LIMIT_WORKERS and
    // LIMIT_FLEETS.
    LIMIT_CLIENTS = 4096,
    // Descriptors that the process asks for: both, twice; a table of watch.h is indexed by them.
    LIMIT_DESCRIPTORS = 32768,
    // Of those that connections must leave free: files that are opened now and then (compaction, receipts).
    LIMIT_DESCRIPTORS_SPARE = 16,

    LIMIT_NAME_BYTES = 255,        // Ids, subjects, names, labels.
    LIMIT_RECORD_VALUES = 1048576, // Values of one record; with 4 bytes each it fills a few chunks.
    // One encoded record must fit one chunk with its envelope.
    LIMIT_RECORD_BYTES = LIMIT_CHUNK_BYTES - 4096,
    LIMIT_COLUMNS = 65536, // Columns of a schema; beyond it the schema would not fit a frame.
    LIMIT_SCHEMA_BYTES = 240 * 1024, // A schema travels in one control frame.
    LIMIT_CATEGORIES = 1024,         // Distinct values of one categorical column (one-hot width).
    LIMIT_CLASSES = 4096,            // Classes of a label.
    LIMIT_SPEC_BYTES = 8 * 1024,     // A spec as text.

    // One row of a text file: LIMIT_RECORD_VALUES / 4 numbers (what fits LIMIT_RECORD_BYTES) of 24
    // characters, with room for names and separators.
    LIMIT_ROW_TEXT_BYTES = 8 * 1024 * 1024,
    LIMIT_EXCEPT_IDS = 10000000, // Ids of one --except file; at 32 bytes each 320 MiB of a client.
    LIMIT_RISK_NAMES = LIMIT_EXCEPT_IDS, // Of one --risk-file, for the same reason.

    // The JSON in front of a safetensors file: at about 130 bytes a tensor 30,000 of them, several
    // times what a model within LIMIT_PARAM_COUNT has; parsed it takes at most some 200 MiB.
    LIMIT_SAFETENSORS_HEADER_BYTES = 4 * 1024 * 1024,
    LIMIT_SAFETENSORS_FILES = 256, // Of one model: LIMIT_PARAM_COUNT in shards of 4 MiB.
    // config.json, an index of shards, vocab.json (GPT-2's has 1 MB).
    LIMIT_MODEL_JSON_BYTES = 4 * 1024 * 1024,

    // Risk classes of subjects: a policy of people who know theirs, a handful; each costs a seek a cell.
    LIMIT_RISK_CLASSES = 16,

    LIMIT_SHARDS = 4096,        // S
    LIMIT_SLICES = 200,         // L and appended slices: a component's name must fit an LMDB key.
    LIMIT_SEQUENCES = 256,      // B
    LIMIT_BMS_SLICES = 100,     // L of BMS, whose work grows as L^4: 0.2 s for 100, 2 s for 200.
    LIMIT_COMPONENTS = 1 << 20, // Components of one model.
    LIMIT_GENERATION = 180,     // Later generations append slices; see LIMIT_SLICES.
    LIMIT_LAYERS = 32,          // Hidden layers of an mlp.
    LIMIT_WIDTH = 65536,        // Units of one layer.
    LIMIT_LORA_RANK = 4096,     // Of an adapter: beyond any layer's width it saves nothing.
    LIMIT_LORA_TARGETS_BYTES = 160, // Their names, joined: all there are.
    LIMIT_EPOCHS = 100000,
    LIMIT_BATCH = 65536,
    LIMIT_GRADIENT_CHUNKS = 64,
    LIMIT_PARAM_COUNT = 256 * 1024 * 1024, // float32 parameters of one component (1 GiB).

    // Of a base. Layers: five times the deepest published ViT and GPT-2, 48. Side of an image: a
    // square of it is what LIMIT_RECORD_VALUES holds. Tokens of one sample: its attention keeps
    // heads * tokens * tokens float32 a layer, with 16 heads 256 MiB; GPT-2 has 1,024, ViT-L/14 at
    // 518 pixels 1,370.
    LIMIT_BASE_LAYERS = 256,
    LIMIT_BASE_SIDE = 1024,
    LIMIT_BASE_TOKENS = 2048,

    // Records of one stage: a worker keeps 32 bytes about each beside the row (8 GiB).
    LIMIT_STAGE_RECORDS = 256 * 1024 * 1024,

    // A receipt's body: names every component that a request touched, at about 90 bytes each: two
    // million of them.
    LIMIT_RECEIPT_BYTES = 192 * 1024 * 1024,

    // Until a deletion that nobody approves is refused: by then the month that the GDPR gives is over.
    LIMIT_APPROVE_HOURS = 24 * 31,
    LIMIT_DUE_DAYS = 3660,       // Until a deletion is due: no law gives ten years.
    LIMIT_REPAIR_BATCH = 100000, // Deletions that a model gathers before it repairs.

    // Of a simulated cluster. Deletions, and failures of ranks: each takes some microseconds, and one that
    // is not repaired yet 24 bytes. Ten years, as far as due dates go; a year until a rank is back.
    LIMIT_SIM_EVENTS = 20000000,
    LIMIT_SIM_DAYS = LIMIT_DUE_DAYS,
    LIMIT_SIM_BACK_SECONDS = 366 * 86400,

    LIMIT_DATASETS = 1024,
    // Keys ever given out: revoked ones keep their names, and count. Ten a week for ten years; all of them
    // are looked through when a dataset is made, 5 ms.
    LIMIT_PRINCIPALS = 5000,
    LIMIT_SCOPE_DATASETS = 256, // That one key is limited to: with their names 67 KB, and one frame.
    LIMIT_MODELS = 1024,
    LIMIT_BASES = 1024,            // Retired ones keep their names, and count.
    LIMIT_BASE_SHAPE_BYTES = 1024, // Canonical text of a base's shape.
    // Ids of one deletion request: at 17 bytes each 17 MiB of the store while it is fenced.
    LIMIT_DELETE_IDS = 1048576,
    // Ids and records that are fenced in one transaction, which others wait for: some 20 ms. Requests of
    // more take several.
    LIMIT_FENCE_IDS = 256,
    LIMIT_PART_IDS = 4096, // Of one part of a request: hashed in one turn of the loop, some 5 ms.
    LIMIT_FENCE_RECORDS = 1024,
    LIMIT_PLAN_RECORDS = 100000, // That one plan looks at: half a second.
    LIMIT_ROWS_PREDICT = 65536,  // Rows of one predict request; also bounded by the chunk.
    // Multiply-adds, in units of 2^30, of one answer about texts, which cost far more than other rows:
    // about two seconds of one core. A longer answer comes in parts, so that others get their turn.
    LIMIT_PREDICT_WORK_GI = 32,
    // Multiply-adds of a prediction that the coordinator's loop computes itself, less than 0.1 ms.
    LIMIT_PREDICT_SMALL_WORK = 160 * 1024,
    LIMIT_PROMPT_TOKENS = 65536, // That one command adds to a prompt: each is a request of its own.
    LIMIT_IMPORTS_OPEN = 16,     // Uploads under way at once.
    LIMIT_BASE_UPLOADS_OPEN = 4, // Each holds its weights in memory.
    LIMIT_DELETES_OPEN = 64,     // Deletions being uploaded in parts at once.
    // Legal holds of a dataset: people and records in litigation. They are counted when one is put: 1 ms.
    LIMIT_HOLDS = 10000,
    LIMIT_REASON_BYTES = LIMIT_NAME_BYTES, // Of a hold: a sentence or a file number.
    LIMIT_REPORTS_OPEN = 2, // Each looks through the whole journal, up to three times.
    LIMIT_RECHECKS = 4096, // Stages that wait to be compared: one for each rank.
    LIMIT_WORKERS = 4096,
    // Cells and weights that a rank keeps: the coordinator knows those of every rank (4,096 ranks: 200
    // MiB), and a list of them is a message of 20 KiB.
    LIMIT_COPIES = 1024,
    LIMIT_CACHE_MIB = 1 << 24, // Memory of a rank for them: 16 TiB, more than hosts have.
    CACHE_MIB = 256, // Unless it is told: as much as a rank takes for a small base anyway.
    LIMIT_FLEETS = 256,
    LIMIT_WAITERS = 65536,     // Clients that wait for a state.
    LIMIT_PREDICT_QUEUE = 256, // Predictions accepted and not yet answered.
    LIMIT_STORE_QUEUE_DELETIONS = 1024, // Of which, at the end, only deletions may take.
    LIMIT_STORE_QUEUE = 4096,  // Operations handed to the store thread and not yet answered.
};

// Records of a simulated dataset: ten for each person alive; sums of samples stay far below 2^64.
#define LIMIT_SIM_RECORDS 100000000000
