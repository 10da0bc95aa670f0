#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/link/link.hpp"

using namespace viv;

// The input is a row of frames for libslirp, with headers that get them to its parsers, and of time. The link is
// restricted, so that nothing of it gets to the host.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr MacAddress mac{2, 0, 0, 0, 0, 1};
    FuzzBoard board;
    auto link = open_network_link("user,restrict=on,hostname=fuzz", {board.loop, board.clock, mac});
    if (!link) return 0;
    FuzzInput input(data, size);
    for (unsigned steps = 0; steps < 100 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        if ((kind & 7) == 7) {
            board.clock.advance(std::chrono::milliseconds(input.byte() * 16));
            board.loop.poll();
            continue;
        }
        std::vector<uint8_t> frame(6, 0xFF);
        frame.insert(frame.end(), mac.begin(), mac.end());
        if ((kind & 7) == 0) {
            frame.insert(frame.end(), {0x08, 0x06, 0, 1, 8, 0, 6, 4});  // ARP
        } else if ((kind & 7) < 6) {
            // IPv4 from 10.0.2.15 to 10.0.2.2 or 10.0.2.3, or everybody.
            constexpr std::array<uint8_t, 4> protocols{1, 6, 17, 2};
            const uint8_t to = kind & 0x20 ? 3 : 2;
            const uint8_t length = input.byte();
            frame.insert(frame.end(), {0x08,
                                       0x00,
                                       0x45,
                                       0,
                                       static_cast<uint8_t>(kind & 0x40),
                                       length,
                                       0,
                                       1,
                                       static_cast<uint8_t>(kind & 0x80 ? 0x20 : 0),
                                       0,
                                       64,
                                       protocols[kind >> 3 & 3],
                                       0,
                                       0,
                                       10,
                                       0,
                                       2,
                                       15,
                                       10,
                                       0,
                                       2,
                                       to});
            uint32_t sum = 0;
            for (size_t i = 14; i < 34; i += 2) sum += uint32_t{frame[i]} << 8 | frame[i + 1];
            while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
            frame[24] = static_cast<uint8_t>(~sum >> 8);
            frame[25] = static_cast<uint8_t>(~sum);
            // Ports of DHCP, TFTP, DNS and others.
            constexpr std::array<uint8_t, 4> ports{67, 69, 53, 7};
            if (kind & 4) frame.insert(frame.end(), {0x10, 0, 0, ports[length & 3]});
        }
        const auto rest = input.some(input.byte());
        frame.insert(frame.end(), rest.begin(), rest.end());
        (*link)->send(frame);
        board.loop.poll();
        while (!(*link)->front().empty()) (*link)->pop();
    }
    return 0;
}
