#include "devices/virtio/virtio_balloon.hpp"

#include <algorithm>

#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint64_t STATS_VQ = feature(1), PAGE_POISON = feature(4), REPORTING = feature(5);
constexpr uint64_t buffer = VirtioBoard::buffer, page = VirtioBalloon::page;

struct Made {
    VirtioBalloon* balloon = nullptr;
};

struct Board : Made, VirtioBoard {
    explicit Board(Duration interval = Duration{0})
        : VirtioBoard([this, interval] {
              auto made =
                  std::make_unique<VirtioBalloon>(clock, VirtioBalloon::Settings{.size = 0x8000, .interval = interval});
              balloon = made.get();
              return made;
          }) {}
    void put_numbers(const std::vector<uint32_t>& numbers) {
        memory.write(Gpa{buffer}, std::as_bytes(std::span(numbers)));
    }
    /// Names pages in a queue.
    void name(unsigned queue, const std::vector<uint32_t>& pages) {
        put_numbers(pages);
        const auto used = run(queue, {{buffer, static_cast<uint32_t>(4 * pages.size()), false}});
        REQUIRE(used);
        CHECK(used->written == 0);
    }
    void fill(uint64_t address, uint64_t size) {
        for (uint64_t at = address; at < address + size; at += 8) memory.store(Gpa{at}, ~uint64_t{0});
    }
    uint64_t at(uint64_t address) { return memory.load<uint64_t>(Gpa{address}); }
    uint64_t statistic(std::string_view name) {
        for (const auto& [known, value] : balloon->statistics()) {
            if (known == name) return value;
        }
        return ~uint64_t{0};
    }
    /// Gives the device a buffer of statistics.
    void tell_statistics(uint16_t tag, uint64_t value) {
        memory.store(Gpa{buffer}, tag);
        memory.store(Gpa{buffer + 2}, value);
        rings.at(2).add({{buffer, 10, false}});
        tell(2);
    }
};
struct ClosedBoard : Board {};

}  // namespace

TEST_CASE("The balloon keeps the device contract") {
    check_device_contract(VirtioBoard::closed<ClosedBoard>);
}

TEST_CASE("The driver learns how much it is to give, and tells how much it has") {
    Board board;
    board.start(0);
    CHECK(board.configuration(0, 4) == 8);
    board.set(VirtioPci::configuration + 4, 4, 5);
    CHECK(board.configuration(4, 4) == 5);
    CHECK(board.statistic("actual") == 5 * page);
    board.set(VirtioPci::configuration, 4, 99);
    CHECK(board.configuration(0, 4) == 8);
    board.isr();
    board.balloon->set_size(3 * page);
    CHECK(board.isr() == ISR_CONFIGURATION);
    CHECK(board.configuration(0, 4) == 3);
    board.save_and_load();
    CHECK(board.configuration(0, 8) == (uint64_t{5} << 32 | 3));
    board.set_status(0);
    CHECK(board.configuration(0, 8) == 3);
}

TEST_CASE("Pages in the balloon go back to the host, and come back as zeros") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout);
        board.fill(0x300000, 0x6000);
        // Not in order, one twice, one where no memory is.
        board.name(0, {0x303, 0x301, 0x302, 0x305, 0x301, 0xFFFFFFFF});
        CHECK(board.at(0x300FF8) == ~uint64_t{0});
        CHECK(board.at(0x301000) == 0);
        CHECK(board.at(0x303FF8) == 0);
        CHECK(board.at(0x304000) == ~uint64_t{0});
        CHECK(board.at(0x305000) == 0);
        CHECK(board.statistic("inflated") == 4 * page);
        board.name(1, {0x301, 0x302});
        CHECK(board.statistic("deflated") == 2 * page);
        board.memory.store(Gpa{0x301000}, uint64_t{7});
        CHECK(board.at(0x301000) == 7);
        CHECK(board.run(0, {{buffer, 3, false}}));
        CHECK(board.run(0, {{buffer, 8, true}}));
        CHECK(board.statistic("inflated") == 4 * page);
    }
}

TEST_CASE("Pages all over the place are given back in several turns") {
    Board board;
    board.start(0);
    std::vector<uint32_t> pages;
    for (uint32_t i = 0; i < VirtioBalloon::most_pages; ++i) pages.push_back(0x1000000 + 2 * i);
    board.put_numbers(pages);
    for (int i = 0; i < 3; ++i) board.rings.at(0).add({{buffer, static_cast<uint32_t>(4 * pages.size()), false}});
    board.tell(0);
    CHECK(board.rings.at(0).take());
    CHECK_FALSE(board.rings.at(0).take());
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.rings.at(0).take());
    CHECK(board.rings.at(0).take());
}

TEST_CASE("Free pages that are reported go back, unless they hold a poison") {
    for (const unsigned queue : {2u, 3u}) {
        // Queues that a driver does not take are not counted.
        Board board;
        board.start(REPORTING | PAGE_POISON | (queue == 3 ? STATS_VQ : 0));
        board.fill(0x300000, 0x4000);
        CHECK(board.run(queue, {{0x301000, 0x1000, true}, {0x302800, 0x1800, true}})->written == 0);
        CHECK(board.at(0x301000) == 0);
        CHECK(board.at(0x302FF8) == ~uint64_t{0});  // not all of a page
        CHECK(board.at(0x303000) == 0);
        CHECK(board.statistic("reported") == 2 * page);
        board.set(VirtioPci::configuration + 12, 4, 0xAAAAAAAA);
        CHECK(board.configuration(12, 4) == 0xAAAAAAAA);
        board.fill(0x300000, 0x1000);
        CHECK(board.run(queue, {{0x300000, 0x1000, true}}));
        CHECK(board.at(0x300000) == ~uint64_t{0});
        CHECK(board.statistic("reported") == 2 * page);
        // Who does not take it has no such field.
        board.start(REPORTING);
        board.set(VirtioPci::configuration + 12, 4, 0xAAAAAAAA);
        CHECK(board.configuration(12, 4) == 0);
    }
}

TEST_CASE("Statistics are kept, and asked for as often as is wanted") {
    Board board(std::chrono::seconds(2));
    board.start(STATS_VQ);
    board.tell_statistics(4, 12345);
    CHECK(board.statistic("free") == 12345);
    CHECK(board.statistic("total") == ~uint64_t{0});
    CHECK_FALSE(board.rings.at(2).take());
    board.clock.advance(std::chrono::milliseconds(1999));
    CHECK_FALSE(board.rings.at(2).take());
    board.save_and_load();
    board.clock.advance(std::chrono::milliseconds(2));
    CHECK(board.rings.at(2).take());
    board.tell_statistics(5, 777);
    CHECK(board.statistic("total") == 777);
    board.clock.advance(std::chrono::seconds(2));
    CHECK(board.rings.at(2).take());
    // Nothing to ask with.
    board.clock.advance(std::chrono::seconds(10));
    board.tell_statistics(99, 1);
    CHECK(board.statistic("total") == ~uint64_t{0});
    // Once is enough where no interval is set.
    Board other;
    other.start(STATS_VQ);
    other.tell_statistics(0, 3);
    other.clock.advance(std::chrono::seconds(100));
    CHECK_FALSE(other.rings.at(2).take());
    CHECK(other.statistic("swapped-in") == 3);
}

TEST_CASE("A state that no balloon has is refused") {
    Board board;
    TreeNode node = board.device->save();
    for (TreeNode& child : node.children) {
        if (child.name == "function") child.set_u32("told", 0x400);
    }
    CHECK_FALSE(board.device->prepare_load(node));
}
