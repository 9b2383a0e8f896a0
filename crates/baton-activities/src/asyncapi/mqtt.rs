//! MQTT 5, as much of it as it takes to publish one message and to take some.
//!
//! Packets are read and written by `rumqttc`'s codec. Its event loop is not used: it connects by itself, to an address
//! that nobody judged, and it acknowledges in its own time, where here a message is acknowledged only after the
//! engine has recorded it: in the next round, over another connection of the same session.
//!
//! # Invariants
//! - A message of quality of service 1 is acknowledged only if its receipt is among those that were given in.
//! - Acknowledgements have reached the broker before a round ends: they are followed by a ping that was answered.
//!
//! # Deliberately absent
//! MQTT 3.1.1: it has no place for headers, and its sessions never expire, so that a workflow that was cancelled would
//! leave one for good. Quality of service 2: what it promises ends at the broker, and a repeat here begins before it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use baton_execution::{Fault, fault_type};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{
        Codec, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login, Packet,
        PingReq, PubAck, PubAckReason, Publish, RetainForwardRule, Subscribe, SubscribeReasonCode,
    },
};
use sha2::{Digest as _, Sha256};
use tokio_util::codec::Framed;

use crate::{
    connection::{Duplex, Target},
    outgoing::Outgoing,
};

/// Largest packet that is taken, in bytes; the broker is told, and lets others pass by.
const PACKET_BYTES_MAX: u32 = 1024 * 1024;
/// Bytes of one round: what was taken is recorded as one result.
const ROUND_BYTES_MAX: usize = 1024 * 1024;
/// Seconds after which a broker may take a silent client for dead; half of it is the pause between pings.
const KEEP_ALIVE_S: u16 = 60;
/// How long a broker may take to answer a subscription.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(10);
/// How long a round goes on after a message in case that there are more.
const LINGER: Duration = Duration::from_millis(100);

/// Who speaks to a broker, and how long it keeps what it has for them.
pub(super) struct Session {
    pub(super) client_id: String,
    /// Whether what the broker has kept for the client is let go.
    pub(super) clean: bool,
    /// Seconds for which the broker keeps messages while nobody is connected.
    pub(super) expiry_s: u32,
    pub(super) login: Option<(String, String)>,
}

/// What a round wants.
pub(super) struct Wanted {
    pub(super) topic: String,
    pub(super) messages_max: usize,
    pub(super) until: Instant,
    /// Receipts of messages that are recorded.
    pub(super) recorded: BTreeSet<String>,
}

/// A message, and what names it in the next round; `None` for one that cannot be acknowledged.
pub(super) struct Taken {
    pub(super) publish: Publish,
    pub(super) receipt: Option<String>,
}

/// A connection to a broker.
pub(super) struct Client {
    packets: Framed<Box<dyn Duplex>, Codec>,
    shown: String,
    /// The broker has kept a session.
    resumed: bool,
}

impl Client {
    /// Connects, and says who it is.
    pub(super) async fn open(outgoing: &Outgoing, target: &Target, session: Session) -> Result<Self, Fault> {
        let connection = outgoing.connect(target).await?;
        let codec = Codec { max_incoming_size: Some(PACKET_BYTES_MAX), max_outgoing_size: None };
        let mut client = Self { packets: Framed::new(connection, codec), shown: target.shown(), resumed: false };
        let properties = ConnectProperties {
            session_expiry_interval: Some(session.expiry_s),
            max_packet_size: Some(PACKET_BYTES_MAX),
            ..ConnectProperties::new()
        };
        let connect = Connect {
            keep_alive: KEEP_ALIVE_S,
            client_id: session.client_id,
            clean_start: session.clean,
            properties: Some(properties),
        };
        let login = session.login.map(|(username, password)| Login { username, password });
        client.send(Packet::Connect(connect, None, login)).await?;
        let answer = tokio::time::timeout(outgoing.connect_timeout, client.next()).await;
        match answer.map_err(|_| client.silent())?? {
            Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
                client.resumed = answer.session_present;
                // What the broker takes is for it to say.
                client.packets.codec_mut().max_outgoing_size =
                    answer.properties.and_then(|properties| properties.max_packet_size);
                Ok(client)
            }
            Packet::ConnAck(answer) => Err(client.refused(answer.code)),
            _ => Err(client.broken("its first packet is no CONNACK")),
        }
    }

    /// Publishes a message; of quality of service 1, until the broker has it.
    pub(super) async fn publish(&mut self, mut publish: Publish) -> Result<(), Fault> {
        publish.pkid = 1;
        let confirmed = publish.qos != QoS::AtMostOnce;
        self.send(Packet::Publish(publish)).await?;
        if !confirmed {
            return self.settle().await;
        }
        loop {
            let Packet::PubAck(answer) = self.next().await? else { continue };
            return match answer.reason {
                // Nobody listens: it was published all the same.
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                PubAckReason::NotAuthorized => Err(Fault::new(
                    fault_type::AUTHORIZATION,
                    403,
                    format!("{} does not let this client publish to the topic", self.shown),
                )
                .non_retryable()),
                reason @ (PubAckReason::QuotaExceeded
                | PubAckReason::UnspecifiedError
                | PubAckReason::ImplementationSpecificError) => Err(Fault::new(
                    fault_type::COMMUNICATION,
                    503,
                    format!("{} did not take the message: {reason:?}", self.shown),
                )),
                reason => Err(Fault::new(
                    fault_type::COMMUNICATION,
                    400,
                    format!("{} did not take the message: {reason:?}", self.shown),
                )
                .non_retryable()),
            };
        }
    }

    /// Takes messages, at least one unless there is none in time.
    pub(super) async fn take(&mut self, mut wanted: Wanted) -> Result<Vec<Taken>, Fault> {
        let mut filter = Filter::new(wanted.topic, QoS::AtLeastOnce);
        // A round that goes on with a subscription does not get once more what was there when that began.
        filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
        let mut subscribe = Subscribe::new(filter, None);
        subscribe.pkid = 1;
        self.send(Packet::Subscribe(subscribe)).await?;
        let mut round = Round { taken: Vec::new(), bytes: 0, subscribed: false, acknowledged: false };
        if !self.resumed {
            // Receipts of a session that is no more name nothing.
            wanted.recorded.clear();
        }
        // However short the time is, the subscription itself is waited for: its time may be over, but it has not failed.
        let ready_by = wanted.until.max(Instant::now() + SUBSCRIBE_MAX);
        let mut pinged = false;
        while round.taken.len() < wanted.messages_max && round.bytes < ROUND_BYTES_MAX {
            let end = if round.subscribed { wanted.until } else { ready_by };
            let left = end.saturating_duration_since(Instant::now());
            let lingers = round.subscribed && !round.taken.is_empty();
            let pause = if lingers { LINGER } else { Duration::from_secs(u64::from(KEEP_ALIVE_S / 2)) };
            match tokio::time::timeout(pause.min(left), self.next()).await {
                Ok(packet) => {
                    pinged = false;
                    self.handle(packet?, &mut round, &mut wanted.recorded).await?;
                }
                Err(_) if lingers || (round.subscribed && left <= pause) => break,
                Err(_) if pinged || left <= pause => return Err(self.silent()),
                Err(_) => {
                    self.send(Packet::PingReq(PingReq)).await?;
                    pinged = true;
                }
            }
        }
        if round.acknowledged {
            self.settle().await?;
        }
        Ok(round.taken)
    }

    async fn handle(
        &mut self,
        packet: Packet,
        round: &mut Round,
        recorded: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        match packet {
            Packet::SubAck(answer) => match answer.return_codes.as_slice() {
                [SubscribeReasonCode::Success(_)] => round.subscribed = true,
                [SubscribeReasonCode::NotAuthorized] => {
                    let detail = format!("{} does not let this client subscribe to the topic", self.shown);
                    return Err(Fault::new(fault_type::AUTHORIZATION, 403, detail).non_retryable());
                }
                codes => return Err(self.broken(&format!("the subscription was refused: {codes:?}"))),
            },
            Packet::Publish(publish) => {
                let receipt = (publish.qos != QoS::AtMostOnce).then(|| receipt(&publish));
                // Only what is sent again can have been recorded; numbers of packets are used again.
                if publish.dup && receipt.as_ref().is_some_and(|receipt| recorded.remove(receipt)) {
                    self.send(Packet::PubAck(PubAck::new(publish.pkid, None))).await?;
                    round.acknowledged = true;
                } else {
                    // With its properties: a hundred of them may be all that it is.
                    round.bytes += publish.size();
                    round.taken.push(Taken { publish, receipt });
                }
            }
            Packet::Disconnect(answer) => {
                return Err(self.broken(&format!("the broker ends it: {:?}", answer.reason_code)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits until the broker has dealt with all that was sent: it does so in order, and answers the ping last.
    async fn settle(&mut self) -> Result<(), Fault> {
        self.send(Packet::PingReq(PingReq)).await?;
        let answered = async {
            loop {
                match self.next().await? {
                    Packet::PingResp(_) => return Ok(()),
                    Packet::Disconnect(answer) => {
                        return Err(self.broken(&format!("the broker ends it: {:?}", answer.reason_code)));
                    }
                    // A message that comes now is not acknowledged, so that it comes again.
                    _ => {}
                }
            }
        };
        let limit = Duration::from_secs(u64::from(KEEP_ALIVE_S / 2));
        match tokio::time::timeout(limit, answered).await {
            Ok(result) => result,
            Err(_) => Err(self.silent()),
        }
    }

    /// Says goodbye; a session that was kept stays.
    pub(super) async fn close(mut self) {
        // The broker notices by itself as well.
        _ = self.send(Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection))).await;
    }

    async fn send(&mut self, packet: Packet) -> Result<(), Fault> {
        match self.packets.send(packet).await {
            Ok(()) => Ok(()),
            Err(error @ rumqttc::v5::mqttbytes::Error::OutgoingPacketTooLarge { .. }) => Err(Fault::new(
                fault_type::TOO_LARGE,
                413,
                format!("{} does not take a message of this size: {error}", self.shown),
            )
            .non_retryable()),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    async fn next(&mut self) -> Result<Packet, Fault> {
        match self.packets.next().await {
            Some(Ok(packet)) => Ok(packet),
            Some(Err(error)) => Err(self.broken(&error.to_string())),
            None => Err(self.broken("the broker closed it")),
        }
    }

    fn refused(&self, code: ConnectReturnCode) -> Fault {
        use ConnectReturnCode as Code;
        let (kind, status, repeat) = match code {
            Code::BadUserNamePassword | Code::BadAuthenticationMethod => (fault_type::AUTHENTICATION, 401, false),
            Code::NotAuthorized | Code::Banned => (fault_type::AUTHORIZATION, 403, false),
            Code::ServiceUnavailable
            | Code::ServerUnavailable
            | Code::ServerBusy
            | Code::QuotaExceeded
            | Code::ConnectionRateExceeded
            | Code::UnspecifiedError => (fault_type::COMMUNICATION, 503, true),
            _ => (fault_type::COMMUNICATION, 400, false),
        };
        let hint = match code {
            Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => "; it must speak MQTT 5",
            _ => "",
        };
        let fault = Fault::new(kind, status, format!("{} refused the connection: {code:?}{hint}", self.shown));
        if repeat { fault } else { fault.non_retryable() }
    }

    fn broken(&self, why: &str) -> Fault {
        Fault::new(fault_type::COMMUNICATION, 502, format!("the connection to {} broke off: {why}", self.shown))
    }

    fn silent(&self) -> Fault {
        Fault::new(fault_type::TIMEOUT, 408, format!("{} does not answer", self.shown))
    }
}

struct Round {
    taken: Vec<Taken>,
    bytes: usize,
    subscribed: bool,
    acknowledged: bool,
}

/// Names a message within its session: a broker sends it again under the same number. What it holds is part of the name,
/// so that a broker that counts anew gives a message twice rather than not at all.
fn receipt(publish: &Publish) -> String {
    let mut hash = Sha256::new();
    hash.update(&publish.topic);
    hash.update([0]);
    hash.update(&publish.payload);
    format!("{}-{}", publish.pkid, hex::encode(&hash.finalize()[..8]))
}

/// A message to publish.
pub(super) fn message(topic: String, payload: Vec<u8>, at_most_once: bool) -> Publish {
    Publish {
        qos: if at_most_once { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        topic: Bytes::from(topic),
        payload: Bytes::from(payload),
        ..Publish::default()
    }
}
