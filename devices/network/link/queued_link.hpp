#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "devices/network/link/impairment.hpp"
#include "devices/network/link/link.hpp"
#include "devices/network/link/pcap_file.hpp"

namespace viv {

/// The part of links that all have: the queue to the NIC, the carrier, and handlers of the event loop that outlive
/// nothing. Derived classes call deliver() in handlers only.
class QueuedLink : public NetworkLink {
  public:
    /// Frames that wait for a NIC that takes none. What comes then is dropped, as by a switch.
    static constexpr size_t queue_limit = 512;

    enum class Carrier { there, none };
    explicit QueuedLink(const LinkSetup& setup, Carrier carrier = Carrier::there)
        : loop_(setup.loop), activity_(setup.activity), up_(carrier == Carrier::there) {}

    ~QueuedLink() override { expect_at(-1); }
    void send(std::span<const uint8_t> frame) final;
    [[nodiscard]] Offloads offloads() const final;
    void send_undone(std::span<const uint8_t> packet, const FrameOffload& offload) final;
    void take_undone(const Offloads& offloads) final;
    [[nodiscard]] std::span<const uint8_t> front() const final;
    [[nodiscard]] FrameOffload front_offload() const final;
    void pop() final;
    void on_receive(std::move_only_function<void()> callback) final { on_receive_ = std::move(callback); }
    [[nodiscard]] bool up() const final { return up_; }
    void set_up(bool up) final;
    /// The cable is out from power-on on.
    void begin_down() { up_ = false; }
    void on_state(std::move_only_function<void()> callback) final { on_state_ = std::move(callback); }
    /// Every frame that is taken from the NIC or waits for it goes to this file from now on.
    void record_to(std::unique_ptr<PcapFile> file) { record_ = std::move(file); }
    /// What the NIC sends is lost or late from now on.
    void impair(const Impairment::Choice& choice, Clock& clock);
    [[nodiscard]] uint64_t dropped() const { return dropped_; }

  protected:
    /// A frame of the NIC, of a length that can be, for the other end; undone is only what can_take_undone() has.
    virtual void transmit(std::span<const uint8_t> frame, const FrameOffload& offload) = 0;
    /// What transmit() takes undone.
    [[nodiscard]] virtual Offloads can_take_undone() const { return {}; }
    /// What taken() says has changed.
    virtual void taken_changed() {}
    /// What may be undone of frames for the NIC: others are finished by deliver().
    [[nodiscard]] const Offloads& taken() const { return taken_; }
    /// The NIC took a frame of a queue that had been full.
    virtual void room_again() {}
    /// A frame for the NIC, which is told. In handlers of the event loop only.
    void deliver(std::span<const uint8_t> frame, const FrameOffload& offload = {});
    [[nodiscard]] size_t waiting() const { return queue_.size(); }
    [[nodiscard]] bool full() const { return queue_.size() >= queue_limit; }
    /// Runs `work` in a handler, if this is still there then.
    void post(std::move_only_function<void()> work);
    EventLoop& loop() { return loop_; }
    /// `fd` is readable when something outside has sent something; -1: nothing can come.
    void expect_at(int fd);

  private:
    struct Waiting {
        std::vector<uint8_t> frame;
        FrameOffload offload;
    };
    /// Finished, if the NIC does not take it as it is.
    void enqueue(Waiting waiting);

    EventLoop& loop_;
    LinkActivity* activity_;  // may be null
    std::deque<Waiting> queue_;
    Offloads taken_;
    std::vector<uint8_t> scratch_;
    std::move_only_function<void()> on_receive_;
    std::move_only_function<void()> on_state_;
    std::unique_ptr<Impairment> impairment_;  // may be null
    std::unique_ptr<PcapFile> record_;        // may be null
    uint64_t dropped_ = 0;
    bool up_;
    std::shared_ptr<QueuedLink*> self_ = std::make_shared<QueuedLink*>(this);  // outlived by posted work
};

}  // namespace viv
