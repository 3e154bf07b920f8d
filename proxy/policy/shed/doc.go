// Package shed decides what a saturated pool takes, keeps waiting, and turns
// away. It is pure: time is given to it, as a time.Duration of one monotonic
// scale for all callers of a node (for [Gradient], of all nodes). Loops that each
// count from their own beginning do not have one.
//
// # A listener's part
//
// A [ClientLimiter] for each listener: Acquire when a connection is accepted
// (closed at once if it is refused) and Release when it ends; Allow for each
// request when its head is read, before anything is done for it: 429 if it is
// refused, with [RetryAfter] of what it says to wait.
//
// # A pool's part
//
// A [Gate], a [RetryBudget] and, if adaptive, a [Gradient] for each pool; a
// [Slot] for each server. The gate's limit is
//
//	Least(config.MaxInFlight, gradient.Limit(), Capacity(slots, usable))
//
// and is set anew, by SetLimit, whenever a part of it changes: a window of the
// gradient was closed, a server comes or goes, turns usable or not, or its limit
// is moved by slow start, a request on a server that is not usable ends. Whom
// SetLimit returns is woken.
//
// # The life of a request
//
//  1. RetryBudget.Request, once.
//  2. Gate.Admit with the session's [Waiter]. Refused: 503 with Gate.RetryAfter.
//     Queued: a timer of the queue's timeout is armed, and the session waits.
//  3. When it is woken, on its own loop: Waiter.Claim; false: nothing was meant.
//     When the timer fires or the client goes: Gate.Cancel; if that says
//     Admitted, the slot is there after all, to be used or released.
//  4. The balancer's choice: Slot.TryAcquire, on the next server if this one is
//     full. If all are: Gate.Release, and 503 as [ServersFull].
//  5. The response's head came: Gradient.Sample. So it is when a response is
//     given up, by a timeout or because the client has left; not when a
//     connection was refused or broke, nor for errors of the server's.
//  6. An attempt failed and may be repeated: Slot.Release, RetryBudget.Retry; if
//     that allows it, from 4 with the next server. The gate's slot is kept: a
//     retry neither queues again nor is admitted twice.
//  7. At the end, however it comes: Slot.Release first, then Gate.Release, so
//     that who is let in finds the server free; whom it returns is woken.
//
// A connection on L4 goes the same way, from its accept to its end, without 5.
package shed
