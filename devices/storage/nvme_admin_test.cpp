// Admin commands of an NVMe controller.
#include <string>

#include "devices/storage/nvme_rig_test.hpp"

using namespace viv;
using namespace viv::nvme;

namespace {

constexpr uint64_t buffer = NvmeBoard::buffer;

uint16_t code(Status status) {
    return static_cast<uint16_t>(status);
}

struct Started : NvmeBoard {
    Started() { start(); }
    std::string text_at(uint64_t address, size_t size) {
        const auto bytes = bytes_at(address, size);
        return {bytes.begin(), bytes.end()};
    }
};

}  // namespace

TEST_CASE("Identify tells of controller and namespace as a driver reads them") {
    Started board;
    CHECK(board.admin_command({.opcode = 6, .w10 = 1}) == 0);
    CHECK(board.number_at(buffer, 2) == 0x1234);
    CHECK(board.text_at(buffer + 4, 8) == "VIVNVME ");
    CHECK(board.text_at(buffer + 24, 19) == "Vivarium NVMe disk ");
    CHECK(board.number_at(buffer + 77, 1) == 7);
    CHECK(board.number_at(buffer + 80) == board.reg(VS));
    CHECK(board.number_at(buffer + 512, 2) == 0x4466);
    CHECK(board.number_at(buffer + 516) == 1);
    CHECK(board.number_at(buffer + 520, 2) == 0x0D);
    CHECK(board.text_at(buffer + 768, 27) == "nqn.2014.08.org.nvmexpress:");
    CHECK(board.admin_command({.opcode = 6, .name_space = 1, .w10 = 0}) == 0);
    CHECK(board.number_at(buffer, 8) == 4000);
    CHECK(board.number_at(buffer + 26, 1) == 0);
    CHECK(board.number_at(buffer + 128) == 9u << 16);
    const auto name = board.bytes_at(buffer + 120, 8);
    CHECK(name[0] == 2);
    CHECK(board.admin_command({.opcode = 6, .name_space = 1, .w10 = 3}) == 0);
    CHECK(board.number_at(buffer, 2) == 0x0801);
    CHECK(board.bytes_at(buffer + 4, 8) == name);
    CHECK(board.admin_command({.opcode = 6, .name_space = 0, .w10 = 2}) == 0);
    CHECK(board.number_at(buffer, 8) == 1);
    CHECK(board.admin_command({.opcode = 6, .name_space = 1, .w10 = 2}) == 0);
    CHECK(board.number_at(buffer, 8) == 0);
    for (const uint32_t other : {0u, 2u, every_namespace}) {
        CHECK(board.admin_command({.opcode = 6, .name_space = other, .w10 = 0}) == code(Status::invalid_namespace));
    }
    CHECK(board.admin_command({.opcode = 6, .w10 = 0x10}) == code(Status::invalid_field));
    CHECK(board.admin_command({.opcode = 6, .prp1 = 0x800000, .w10 = 1}) == code(Status::data_transfer_error));
}

TEST_CASE("Queues are made and deleted in the right order only") {
    Started board;
    const auto make_completions = [&](uint32_t queue, uint32_t size, uint32_t w11 = 3, uint64_t at = 0x40000) {
        return board.admin_command({.opcode = 5, .prp1 = at, .w10 = (size - 1) << 16 | queue, .w11 = w11});
    };
    const auto make_submissions = [&](uint32_t queue, uint32_t size, uint32_t w11, uint64_t at = 0x20000) {
        return board.admin_command({.opcode = 1, .prp1 = at, .w10 = (size - 1) << 16 | queue, .w11 = w11});
    };
    CHECK(make_completions(0, 16) == code(Status::invalid_queue));
    CHECK(make_completions(17, 16) == code(Status::invalid_queue));
    CHECK(make_completions(1, 1) == code(Status::invalid_queue_size));
    CHECK(make_completions(1, 1025) == code(Status::invalid_queue_size));
    CHECK(make_completions(1, 16, 17u << 16 | 3) == code(Status::invalid_vector));
    CHECK(make_completions(1, 16, 3, 0x40010) == code(Status::invalid_prp_offset));
    CHECK(make_completions(1, 16, 2) == code(Status::invalid_field));
    CHECK(make_submissions(1, 16, 1u << 16 | 1) == code(Status::invalid_completion_queue));
    CHECK(make_completions(1, 1024) == 0);
    CHECK(make_completions(1, 16) == code(Status::invalid_queue));
    CHECK(make_submissions(1, 16, 1) == code(Status::invalid_completion_queue));
    CHECK(make_submissions(0, 16, 1u << 16 | 1) == code(Status::invalid_queue));
    CHECK(make_submissions(3, 1, 1u << 16 | 1) == code(Status::invalid_queue_size));
    CHECK(make_submissions(3, 16, 1u << 16 | 1, 0x20008) == code(Status::invalid_prp_offset));
    CHECK(make_submissions(3, 16, 1u << 16 | 1) == 0);
    CHECK(make_submissions(3, 16, 1u << 16 | 1) == code(Status::invalid_queue));
    CHECK(board.admin_command({.opcode = 4, .w10 = 1}) == code(Status::invalid_deletion));
    CHECK(board.admin_command({.opcode = 0, .w10 = 0}) == code(Status::invalid_queue));
    CHECK(board.admin_command({.opcode = 4, .w10 = 0}) == code(Status::invalid_queue));
    CHECK(board.admin_command({.opcode = 0, .w10 = 3}) == 0);
    CHECK(board.admin_command({.opcode = 0, .w10 = 3}) == code(Status::invalid_queue));
    CHECK(board.admin_command({.opcode = 4, .w10 = 1}) == 0);
    CHECK(board.admin_command({.opcode = 4, .w10 = 1}) == code(Status::invalid_queue));
    board.set(CC, CC_EN);  // entries of one byte
    CHECK(make_completions(1, 16) == code(Status::invalid_field));
}

TEST_CASE("Features are kept, and the number of queues is what there is") {
    Started board;
    const auto set = [&](uint32_t number, uint32_t value) {
        return board.admin_command({.opcode = 9, .w10 = number, .w11 = value});
    };
    const auto get = [&](uint32_t number) {
        REQUIRE(board.admin_command({.opcode = 0x0A, .w10 = number}) == 0);
        return board.last.result;
    };
    CHECK(set(7, 0x003F003F) == 0);
    CHECK(board.last.result == 0x000F000F);
    CHECK(set(7, 0xFFFF0000) == code(Status::invalid_field));
    CHECK(get(6) == 1);
    CHECK(set(6, 0) == 0);
    CHECK(get(6) == 0);
    CHECK(set(0x0B, 0x100) == 0);
    CHECK(get(0x0B) == 0x100);
    CHECK(set(2, 1) == code(Status::invalid_field));
    CHECK(set(0x7E, 0) == code(Status::invalid_field));
    CHECK(set(6 | 1u << 31, 0) == code(Status::not_saveable));
    CHECK(board.admin_command({.opcode = 0x0A, .w10 = 0x03}) == code(Status::invalid_field));
    board.start_queue(1);
    CHECK(set(7, 0) == code(Status::sequence_error));
    // Without its cache every write is on the medium.
    board.image->flushes = 0;
    CHECK(board.run(1, NvmeBoard::transfer(1, 0, 1, buffer)) == 0);
    CHECK(board.image->flushes == 1);
}

TEST_CASE("Log pages come from any offset, and none is longer than it is") {
    Started board;
    board.start_queue(1);
    for (unsigned i = 0; i < 3; ++i) board.run(1, NvmeBoard::transfer(2, 0, 8, buffer));
    CHECK(board.admin_command({.opcode = 2, .name_space = every_namespace, .w10 = 127u << 16 | 2}) == 0);
    CHECK(board.number_at(buffer + 1, 2) == 310);
    CHECK(board.number_at(buffer + 3, 1) == 100);
    CHECK(board.number_at(buffer + 32, 8) == 1);
    CHECK(board.number_at(buffer + 64, 8) == 3);
    CHECK(board.admin_command({.opcode = 2, .w10 = 0u << 16 | 3, .w12 = 8}) == 0);
    CHECK(board.text_at(buffer, 4) == "1.0 ");
    CHECK(board.admin_command({.opcode = 2, .w10 = 15u << 16 | 1}) == 0);
    CHECK(board.admin_command({.opcode = 2, .w10 = 0x77}) == code(Status::invalid_log_page));
    CHECK(board.admin_command({.opcode = 2, .w10 = 2, .w12 = 516}) == code(Status::invalid_field));
    CHECK(board.admin_command({.opcode = 2, .w10 = 2, .w12 = 0, .w13 = 1}) == code(Status::invalid_field));
    CHECK(board.admin_command({.opcode = 2, .w10 = 0xFFFF0002, .w11 = 0xFFFF}) == code(Status::invalid_field));
}

TEST_CASE("Wrong doorbells are told to whoever waits for events, once until the log is read") {
    Started board;
    const uint16_t first = board.put(0, {.opcode = 0x0C});
    const uint16_t second = board.put(0, {.opcode = 0x0C});
    board.tell(0);
    CHECK_FALSE(board.take(0));
    board.ring_submissions(9, 1);
    const auto event = board.take(0);
    REQUIRE(event);
    CHECK(event->identifier == first);
    CHECK(event->result == 0x00010000);
    board.ring_submissions(0, 16);
    CHECK_FALSE(board.take(0));
    const uint16_t read_log = board.put(0, {.opcode = 2, .w10 = 15u << 16 | 1});
    board.tell(0);
    CHECK(board.take(0)->identifier == read_log);
    board.ring_completions(0, 2);  // lets the events be looked at again
    const auto next = board.take(0);
    REQUIRE(next);
    CHECK(next->identifier == second);
    CHECK(next->result == 0x00010100);
    for (unsigned i = 0; i < 4; ++i) board.put(0, {.opcode = 0x0C});
    board.tell(0);
    CHECK_FALSE(board.take(0));
    CHECK(board.admin_command({.opcode = 0x0C}) == code(Status::too_many_event_requests));
}

TEST_CASE("Nothing is aborted, and what is unknown is an invalid opcode") {
    Started board;
    CHECK(board.admin_command({.opcode = 8, .w10 = 1}) == 0);
    CHECK(board.last.result == 1);
    for (const uint8_t opcode : std::array<uint8_t, 6>{0x03, 0x0D, 0x10, 0x18, 0x80, 0xFF}) {
        CHECK(board.admin_command({.opcode = opcode}) == code(Status::invalid_opcode));
    }
}
